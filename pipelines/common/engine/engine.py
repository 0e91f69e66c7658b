"""Computes requests side by side in the slots of a runner: continuous batching."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from pipelines.common.engine.kv_slots import KVSlots
from pipelines.common.engine.request import Request
from pipelines.common.engine.sequence import TextSequence
from pipelines.common.errors import PipelineError, UsageError
from pipelines.common.program.runner import PREFILL_CHUNK, CandidateRunner, Runner
from pipelines.common.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Event:
    """What a step has done for one sequence.

    Attributes:
        sequence: The sequence that has got a token, or of whose prompt a part was computed. With a
            `finish_reason` it has ended, and does not come again.
        text: What can be shown now, often nothing.
    """

    sequence: TextSequence
    text: str


@dataclass
class _Prefill:
    """A prompt that is being computed.

    Attributes:
        sequence: Whose it is.
        slot: Where to.
        done: How many of its tokens the slot holds.
    """

    sequence: TextSequence
    slot: int
    done: int


class Engine:
    """Takes requests at any time, computes them step by step, and lets go of them at any time.

    It never waits for anything: whoever has a terminal, a file or a socket calls `add`, `step` and
    `cancel`. A request gets a slot as soon as one is free. Sequences that go on are kept in the
    first slots, because a runner's step takes the first n.

    Args:
        runner: What computes; all of its slots are used, and what they held is forgotten.
        tokenizer: Turns tokens to text and knows which of them end it.
        interleaved: Whether a step that computes a part of a prompt also gives every other sequence
            its next token. Otherwise prompts come first: all is done sooner, and sequences that go
            on stand still while a prompt is read.
    """

    def __init__(self, runner: Runner, tokenizer: Tokenizer, *, interleaved: bool = False) -> None:
        self._runner = runner
        self._candidate_runner = runner if isinstance(runner, CandidateRunner) else None
        self._tokenizer = tokenizer
        self._interleaved = interleaved
        self._waiting: deque[TextSequence] = deque()
        self._prefill: _Prefill | None = None
        self._slots = KVSlots(runner)

    @property
    def room(self) -> int:
        """How many requests more there are slots for, now."""
        return self._slots.free - (self._prefill is not None) - len(self._waiting)

    @property
    def idle(self) -> bool:
        """Whether there is nothing to compute."""
        return not (self._waiting or self._prefill or self._slots.active)

    def add(self, request: Request) -> TextSequence:
        """Takes in a request, which waits where there is no slot for it.

        Returns:
            The sequence, which the events of later steps are about.

        Raises:
            UsageError: It does not fit into a slot.
        """
        if request.max_length > self._runner.max_length:
            raise UsageError(
                f"a sequence may grow to {request.max_length} tokens; expected at most"
                f" {self._runner.max_length}, what a slot holds"
            )
        sequence = TextSequence(request, self._tokenizer)
        self._waiting.append(sequence)
        return sequence

    def cancel(self, sequence: TextSequence) -> str:
        """Lets go of a sequence, which ends as ``interrupted``; one that has ended stays as it is.

        Returns:
            The text that was held back.
        """
        if sequence.finish_reason is not None:
            return ""
        if sequence in self._waiting:
            self._waiting.remove(sequence)
        elif self._prefill is not None and self._prefill.sequence is sequence:
            self._prefill = None
        else:
            self._slots.sequences[self._slots.sequences.index(sequence)] = None
        return sequence.finish("interrupted")

    def step(self) -> list[Event]:
        """Computes a part of a prompt, or the next token of every sequence; both if interleaved.

        Returns:
            What it has done; nothing only where there was nothing to do.
        """
        if self._prefill is None and self._waiting and self._slots.free:
            self._admit(self._waiting.popleft())
        events = [] if self._prefill is None else [self._read_on(self._prefill)]
        if not events or self._interleaved:
            events += self._decode(apart_from=[event.sequence for event in events])
        return events

    def _admit(self, sequence: TextSequence) -> None:
        """Finds a slot for a prompt and what it holds of it."""
        start = time.perf_counter()
        if self._interleaved:  # the slot must not lie among those of the next steps
            self._slots.close_gaps()
        free = [s for s, other in enumerate(self._slots.sequences) if other is None]
        slot, done = self._slots.place(sequence.prompt, free)
        sequence.shared_tokens = done
        sequence.timings.prefill_s += time.perf_counter() - start
        self._prefill = _Prefill(sequence, slot, done)

    def _read_on(self, prefill: _Prefill) -> Event:
        """Computes the next part of a prompt, and after the last one chooses the first token."""
        start = time.perf_counter()
        sequence, slot, done = prefill.sequence, prefill.slot, prefill.done
        prompt, timings = sequence.prompt, sequence.timings
        part = prompt[done : done + PREFILL_CHUNK]
        logits = self._runner.prefill(slot, part, done)
        prefill.done += len(part)
        self._slots.held[slot][done:] = part
        timings.prefill_s += time.perf_counter() - start
        if prefill.done < len(prompt):
            return Event(sequence, "")
        self._prefill = None
        self._slots.sequences[slot] = sequence
        start = time.perf_counter()
        token = _chosen(sequence, partial(sequence.sample, logits))
        timings.first_token_s = timings.prefill_s + time.perf_counter() - start
        return self._accept(slot, token)

    def _decode(self, apart_from: Sequence[TextSequence]) -> list[Event]:
        """Gives every sequence its next token, but for those that have just got their first."""
        self._slots.close_gaps()
        active = self._slots.active
        # What has just been read stands last: the others are in the slots before it.
        while active and active[-1] in apart_from:
            active.pop()
        if not active:
            return []
        return [self._accept(slot, token) for slot, token in enumerate(self._step(active))]

    def _step(self, active: Sequence[TextSequence]) -> list[int | None]:
        """Appends its last token to each sequence; chooses the next ones."""
        start = time.perf_counter()
        fed = [sequence.tokens[-1] for sequence in active]
        tokens = self._next_tokens(active, fed)
        seconds = time.perf_counter() - start
        for sequence, token, held in zip(active, fed, self._slots.held, strict=False):
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

    def _accept(self, slot: int, token: int | None) -> Event:
        """Gives the sequence in `slot` its token; frees the slot if that was its last."""
        sequence = self._slots.sequences[slot]
        assert sequence is not None
        text = "" if token is None else sequence.accept(token)
        if sequence.finish_reason is not None:
            self._slots.sequences[slot] = None
        return Event(sequence, text)


def run(engine: Engine, requests: Iterable[Request]) -> Iterator[Event]:
    """Computes requests to their ends.

    Args:
        engine: What computes them.
        requests: The next one is asked for when there is a slot for it.

    Yields:
        What `Engine.step` has done, as it is done.
    """
    waiting = iter(requests)
    while True:
        while engine.room > 0 and (request := next(waiting, None)) is not None:
            engine.add(request)
            yield from engine.step()
        if engine.idle:
            return
        yield from engine.step()


def warm_up(runner: Runner, prompt: Sequence[int]) -> None:
    """Runs the prompt and one decode step, so that what follows finds everything in place."""
    logits = runner.prefill(0, prompt)
    step = runner.advance if isinstance(runner, CandidateRunner) else runner.decode
    step([int(logits.argmax())])


def _chosen(sequence: TextSequence, choose: Callable[[], int]) -> int | None:
    """The sequence's next token; None if it fails, which ends it and no other."""
    try:
        return choose()
    except PipelineError as error:
        sequence.fail(error)
        return None
