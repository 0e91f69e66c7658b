"""Which sequence each slot of a runner computes, and which tokens its KV cache holds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pipelines.common.engine.sequence import TextSequence
from pipelines.common.program.runner import Runner


class KVSlots:
    """The slots of a runner.

    A slot remembers the tokens that it holds after its sequence has ended: a prefix cache of one
    entry a slot. A prompt that begins like one of them has that part's keys and values copied, and
    only the rest is computed.

    Attributes:
        sequences: The sequence in each slot; None where it is free.
        held: The tokens whose keys and values each slot holds.
    """

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self.sequences: list[TextSequence | None] = [None] * runner.slots
        self.held: list[list[int]] = [[] for _ in range(runner.slots)]

    @property
    def free(self) -> int:
        """How many slots are free."""
        return self.sequences.count(None)

    @property
    def active(self) -> list[TextSequence]:
        """The sequences that go on, in slot order."""
        return [sequence for sequence in self.sequences if sequence is not None]

    def place(self, prompt: Sequence[int], slots: Iterable[int]) -> tuple[int, int]:
        """Has a slot hold as much of the beginning of a prompt as any slot does.

        Args:
            prompt: Token ids.
            slots: Free slots to choose from.

        Returns:
            The slot, and how many tokens of the prompt it holds.
        """
        known = prompt[:-1]  # the last token is computed in any case: its logits are wanted
        common = [_common_prefix(held, known) for held in self.held]
        target = max(slots, key=common.__getitem__)
        source = max(range(len(common)), key=common.__getitem__)
        if common[source] > common[target]:
            self._runner.copy(source, target, common[source])
        self.held[target] = list(known[: common[source]])
        return target, common[source]

    def close_gaps(self) -> None:
        """Moves sequences down from the last slots: a runner's step takes the first n."""
        while None in self.sequences:
            gap = self.sequences.index(None)
            last = max((s for s, sequence in enumerate(self.sequences) if sequence), default=-1)
            if last < gap:
                return
            self._runner.copy(last, gap, len(self.held[last]))
            self.held[gap] = list(self.held[last])
            self.sequences[gap], self.sequences[last] = self.sequences[last], None


def _common_prefix(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two sequences have in common at their beginnings."""
    length = min(len(one), len(other))
    return next((at for at in range(length) if one[at] != other[at]), length)
