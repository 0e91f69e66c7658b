"""Computes sequences side by side in the slots of a runner."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice

from pipelines.common.engine.sequence import TextSequence
from pipelines.common.errors import PipelineError
from pipelines.common.program.runner import PREFILL_CHUNK, CandidateRunner, Runner

_LOOK_AHEAD = 256
_ALIKE = 16
"""Tokens that prompts have to share to be brought together; for fewer it makes no difference."""


class Scheduler:
    """Fills slots with sequences, and refills those whose sequence has ended.

    The sequences that go on are kept in the first slots, because a runner's step takes the first
    n. A slot remembers the tokens that it holds after its sequence has ended, and a prompt
    that begins like those is not computed again: their keys and values are copied.

    Args:
        runner: What computes; all of its slots are used, and what they held is forgotten.
    """

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._candidate_runner = runner if isinstance(runner, CandidateRunner) else None
        self._slots: list[TextSequence | None] = [None] * runner.slots
        self._held: list[list[int]] = [[] for _ in range(runner.slots)]

    def run(self, sequences: Iterable[TextSequence]) -> Iterator[tuple[TextSequence, str]]:
        """Computes sequences to their ends.

        Args:
            sequences: Ones that have not begun yet, each within the runner's `max_length`. The next
                one is asked for when there is a slot for it.

        Yields:
            A sequence that has got a token, or of whose prompt a part was computed, and the text
            that can be printed now, often none. One with a `finish_reason` does not come again.
        """
        waiting = iter(sequences)
        while True:
            while None in self._slots and (sequence := next(waiting, None)) is not None:
                for text in self._admit(sequence):
                    yield sequence, text
            self._close_gaps()
            active = [sequence for sequence in self._slots if sequence is not None]
            if not active:
                return
            for slot, token in enumerate(self._step(active)):
                yield active[slot], self._accept(slot, token)

    def _admit(self, sequence: TextSequence) -> Iterator[str]:
        """Computes the prompt of `sequence` in a free slot, part by part, and its first token.

        Yields:
            Nothing after each part but the last, and then the text that can be printed.
        """
        start = time.perf_counter()
        prompt, timings = sequence.prompt, sequence.timings
        slot, done = self._place(prompt)
        sequence.shared_tokens = done
        while True:
            part = prompt[done : done + PREFILL_CHUNK]
            logits = self._runner.prefill(slot, part, done)
            done += len(part)
            timings.prefill_s += time.perf_counter() - start
            if done == len(prompt):
                break
            yield ""
            start = time.perf_counter()
        self._held[slot] = list(prompt)
        self._slots[slot] = sequence
        start = time.perf_counter()
        token = _chosen(sequence, partial(sequence.sample, logits))
        timings.first_token_s = timings.prefill_s + time.perf_counter() - start
        yield self._accept(slot, token)

    def _place(self, prompt: Sequence[int]) -> tuple[int, int]:
        """A free slot that holds the beginning of `prompt`, and how many tokens of it."""
        known = prompt[:-1]  # the last token is computed in any case: its logits are wanted
        common = [_common_prefix(held, known) for held in self._held]
        slots = range(len(self._slots))
        target = max((s for s in slots if self._slots[s] is None), key=common.__getitem__)
        source = max(slots, key=common.__getitem__)
        if common[source] > common[target]:
            self._runner.copy(source, target, common[source])
        return target, common[source]

    def _step(self, active: Sequence[TextSequence]) -> list[int | None]:
        """Appends its last token to each sequence; chooses the next ones."""
        start = time.perf_counter()
        fed = [sequence.tokens[-1] for sequence in active]
        tokens = self._next_tokens(active, fed)
        seconds = time.perf_counter() - start
        for sequence, token, held in zip(active, fed, self._held, strict=False):
            held.append(token)
            sequence.timings.decode_s += seconds
            sequence.timings.decode_steps += 1
        return tokens

    def _next_tokens(self, active: Sequence[TextSequence], fed: Sequence[int]) -> list[int | None]:
        """Appends `fed` to the sequences; chooses what follows, from as few logits as will do."""
        runner = self._candidate_runner
        if runner is None or not all(sequence.takes(runner.candidates) for sequence in active):
            logits = self._runner.decode(fed)
        else:
            best = runner.advance(fed)
            if all(map(TextSequence.decided_by, active, best.logits)):
                return [
                    _chosen(sequence, partial(sequence.sample_candidates, *row))
                    for sequence, *row in zip(active, best.tokens, best.logits, strict=True)
                ]
            logits = runner.last_logits()
        return [
            _chosen(sequence, partial(sequence.sample, row))
            for sequence, row in zip(active, logits, strict=True)
        ]

    def _accept(self, slot: int, token: int | None) -> str:
        """Gives the sequence in `slot` its token; frees the slot if that was its last."""
        sequence = self._slots[slot]
        assert sequence is not None
        text = "" if token is None else sequence.accept(token)
        if sequence.finish_reason is not None:
            self._slots[slot] = None
        return text

    def _close_gaps(self) -> None:
        """Moves sequences down from the last slots, when there are none left to fill gaps with."""
        while None in self._slots:
            gap = self._slots.index(None)
            last = max((s for s, sequence in enumerate(self._slots) if sequence), default=-1)
            if last < gap:
                return
            self._runner.copy(last, gap, len(self._held[last]))
            self._held[gap] = list(self._held[last])
            self._slots[gap], self._slots[last] = self._slots[last], None


def _chosen(sequence: TextSequence, choose: Callable[[], int]) -> int | None:
    """The sequence's next token; None if it fails, which ends it and no other."""
    try:
        return choose()
    except PipelineError as error:
        sequence.fail(error)
        return None


def _common_prefix(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two sequences have in common at their beginnings."""
    length = min(len(one), len(other))
    return next((at for at in range(length) if one[at] != other[at]), length)


def alike_together(sequences: Iterable[TextSequence]) -> Iterator[TextSequence]:
    """Brings sequences that begin alike next to each other, while one still holds what they share.

    Those that begin like no other stay in their order. Some hundred are looked at ahead.
    """
    sequences = iter(sequences)
    while ahead := list(islice(sequences, _LOOK_AHEAD)):
        places: dict[tuple[int, ...], int] = {}
        for place, sequence in enumerate(ahead):
            places.setdefault(_beginning(sequence), place)
        yield from sorted(ahead, key=lambda one: (places[_beginning(one)], one.prompt))


def _beginning(sequence: TextSequence) -> tuple[int, ...]:
    return tuple(sequence.prompt[:_ALIKE])


def warm_up(runner: Runner, prompt: Sequence[int]) -> None:
    """Runs the prompt and one decode step, so that what follows finds everything in place."""
    logits = runner.prefill(0, prompt)
    step = runner.advance if isinstance(runner, CandidateRunner) else runner.decode
    step([int(logits.argmax())])
