"""What a target hands to the engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

PREFILL_CHUNK = 512
"""Most tokens of a prompt that are computed together: bounds the activations' memory."""


@dataclass(frozen=True)
class Row:
    """What a forward pass computes for one slot.

    Attributes:
        slot: The slot.
        tokens: Token ids, at least one.
        start: Position of the first of them; what the slot held from there on is forgotten.
        wanted: Places in `tokens` whose logits are wanted, ascending, at least one; None for the
            last.
    """

    slot: int
    tokens: Sequence[int]
    start: int = 0
    wanted: Sequence[int] | None = None


class Runner(Protocol):
    """A compiled model with its weights and a KV state of `slots` sequences.

    The KV state is the runner's own; callers know slots and how many tokens each one holds.
    """

    @property
    def slots(self) -> int:
        """Number of sequences held side by side."""

    @property
    def max_length(self) -> int:
        """Tokens that one slot can hold."""

    @property
    def batch_invariant(self) -> bool:
        """Whether a sequence's logits are the same to the last bit, whatever is computed beside it.

        That includes into how many calls its prompt is cut, and whether its beginning was copied.
        """

    def forward(self, rows: Sequence[Row]) -> list[NDArray[np.float32]]:
        """Computes tokens of some slots, on top of what these hold.

        Args:
            rows: At least one; each is about another slot.

        Raises:
            UsageError: There is no such slot or token, or a row does not fit into its slot or
                leaves a gap after what it holds.

        Returns:
            The logits of each row, ``[wanted, vocab]``.
        """

    def prefill(self, slot: int, tokens: Sequence[int], start: int = 0) -> NDArray[np.float32]:
        """Writes `tokens` into `slot` from position `start` on; what was there is forgotten.

        Raises:
            UsageError: See `forward`.

        Returns:
            The logits after the last token, shape ``[vocab]``.
        """

    def decode(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Appends one token to each of the first slots.

        Args:
            tokens: One token id a slot, in slot order; at most `slots` of them.

        Raises:
            UsageError: There are no tokens, or more than slots, an id is none of the vocabulary, or
                a slot is full.

        Returns:
            Logits, shape ``[len(tokens), vocab]``, in memory that the next call uses again.
        """

    def copy(self, source: int, target: int, length: int) -> None:
        """Makes the first `length` tokens of one slot those of another; what was there is lost.

        Args:
            source: The slot that has them; it keeps them.
            target: Another slot, which holds `length` tokens afterwards.
            length: At most what `source` holds.

        Raises:
            UsageError: There is no such slot, or the source holds fewer tokens.
        """

    def score(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Runs `tokens` through slot 0 from position 0 and returns the logits after each.

        Raises:
            UsageError: See `forward`.

        Returns:
            Logits, shape ``[len(tokens), vocab]``.
        """


@dataclass(frozen=True)
class Candidates:
    """The most likely tokens of each sequence, the most likely one first.

    Attributes:
        tokens: Their ids, ``[sequences, candidates]``.
        logits: Their logits, which descend, ``[sequences, candidates]``. A logit that is not a
            number counts as infinite, and so comes first.
    """

    tokens: NDArray[np.int64]
    logits: NDArray[np.float32]


@runtime_checkable
class CandidateRunner(Runner, Protocol):
    """A runner that can leave a step's logits where it has computed them."""

    @property
    def candidates(self) -> int:
        """Tokens that `advance` tells of each sequence."""

    def advance(self, tokens: Sequence[int]) -> Candidates:
        """Appends one token to each of the first slots, like `decode`.

        Returns:
            The most likely tokens, in memory that the next call uses again.
        """

    def last_logits(self) -> NDArray[np.float32]:
        """What `decode` would have returned in place of the last `advance`."""
