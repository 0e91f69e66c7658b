"""What a target hands to the engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from pipelines.common.errors import UsageError

Lengths: TypeAlias = Sequence[int] | NDArray[np.int32]

PREFILL_CHUNK = 512
"""Most tokens of a prompt that are computed together: bounds the activations' memory."""


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

    def prefill(self, slot: int, tokens: Sequence[int], start: int = 0) -> NDArray[np.float32]:
        """Writes `tokens` into `slot` from position `start` on; what was there is forgotten.

        Raises:
            UsageError: See `check_prompt`.

        Returns:
            The logits after the last token, shape ``[vocab]``.
        """

    def decode(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Appends one token to each of the first slots.

        Args:
            tokens: One token id a slot, in slot order; at most `slots` of them.

        Raises:
            UsageError: See `check_step`.

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
            UsageError: See `check_copy`.
        """

    def score(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Runs `tokens` through slot 0 from position 0 and returns the logits after each.

        Raises:
            UsageError: See `check_prompt`.

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


def check_prompt(
    runner: Runner, vocabulary: int, slot: int, tokens: Sequence[int], start: int = 0
) -> None:
    """Makes sure that a part of a prompt can be computed, see `Runner.prefill`.

    Args:
        runner: What is to compute it.
        vocabulary: Number of token ids.
        slot: Where to.
        tokens: Token ids.
        start: Position of the first of them.

    Raises:
        UsageError: There are no tokens or no such slot, an id is none of the vocabulary, or they
            do not fit into the slot.
    """
    _check_slot(runner, slot)
    _check_tokens(tokens, vocabulary)
    if start < 0 or start + len(tokens) > runner.max_length:
        raise UsageError(
            f"{len(tokens)} tokens from position {start} do not fit into a slot for"
            f" {runner.max_length}"
        )


def check_step(runner: Runner, vocabulary: int, tokens: Sequence[int], lengths: Lengths) -> None:
    """Makes sure that each of the first slots can be given a token, see `Runner.decode`.

    Args:
        runner: What is to compute it.
        vocabulary: Number of token ids.
        tokens: Token ids.
        lengths: How many tokens each slot holds.

    Raises:
        UsageError: There are no tokens, or more than slots, an id is none of the vocabulary, or a
            slot is full.
    """
    _check_tokens(tokens, vocabulary)
    if len(tokens) > runner.slots:
        raise UsageError(f"{len(tokens)} tokens are given for {runner.slots} slots")
    if max(lengths[: len(tokens)]) >= runner.max_length:
        raise UsageError(f"a slot holds {runner.max_length} tokens already, all that it can")


def check_copy(runner: Runner, source: int, target: int, length: int, lengths: Lengths) -> None:
    """Makes sure that a slot has what is to be copied from it, see `Runner.copy`.

    Args:
        runner: What is to copy it.
        source: The slot that has the tokens.
        target: The slot that gets them.
        length: How many.
        lengths: How many tokens each slot holds.

    Raises:
        UsageError: There is no such slot, or the source holds fewer.
    """
    _check_slot(runner, source)
    _check_slot(runner, target)
    if not 0 <= length <= lengths[source]:
        raise UsageError(f"slot {source} holds {lengths[source]} tokens; {length} cannot be copied")


def _check_slot(runner: Runner, slot: int) -> None:
    if not 0 <= slot < runner.slots:
        raise UsageError(f"there is no slot {slot}; there are {runner.slots}, from 0")


def _check_tokens(tokens: Sequence[int], vocabulary: int) -> None:
    if not len(tokens):
        raise UsageError("there are no tokens to compute; expected at least one")
    for token in (min(tokens), max(tokens)):
        if not 0 <= token < vocabulary:
            raise UsageError(f"there is no token {token}; the vocabulary has {vocabulary}, from 0")
