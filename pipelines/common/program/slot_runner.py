"""The part of a runner that is the same on every target: slots, lengths, checks, chunks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipelines.common.errors import UsageError
from pipelines.common.program.runner import PREFILL_CHUNK, Row

FED: Final = ("tokens", "past", "total", "wanted")
"""What such runners feed to a network, beside tables and the state."""


class SlotRunner(ABC):
    """Implements `pipelines.common.program.runner.Runner` on one operation, `_compute`.

    Args:
        slots: Sequences side by side.
        max_length: Tokens that each slot can hold.
        vocabulary: Number of token ids.

    Attributes:
        slots: See `Runner.slots`.
        max_length: See `Runner.max_length`.
    """

    def __init__(self, slots: int, max_length: int, vocabulary: int) -> None:
        self.slots = slots
        self.max_length = max_length
        self._vocabulary = vocabulary
        self._lengths = np.zeros(slots, np.int32)

    @abstractmethod
    def _compute(
        self, first: int, tokens: NDArray[np.int64], wanted: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Computes tokens of consecutive slots, on top of as many as `_lengths` says.

        More than one token a slot come for one slot at a time.

        Args:
            first: The first of the slots.
            tokens: Token ids, ``[slots, tokens]``.
            wanted: Places in the tokens whose logits are wanted, ``[slots, wanted]``.

        Returns:
            Logits, ``[slots, wanted, vocab]``, in memory that the next call may use again.
        """

    @abstractmethod
    def _copy(self, source: int, target: int, length: int) -> None:
        """Copies the state of the first tokens of a slot to another one, see `Runner.copy`."""

    def forward(self, rows: Sequence[Row]) -> list[NDArray[np.float32]]:
        """See `Runner.forward`."""
        if not rows or len({row.slot for row in rows}) < len(rows):
            raise UsageError("there are no rows to compute, or two of a slot; expected one a slot")
        for row in rows:
            self._check(row)
        if len(rows) > 1 and self._is_step(rows):
            return list(self.decode([row.tokens[0] for row in rows])[:, None].copy())
        return [self._computed(row) for row in rows]

    def prefill(self, slot: int, tokens: Sequence[int], start: int = 0) -> NDArray[np.float32]:
        """See `Runner.prefill`."""
        (logits,) = self.forward([Row(slot, tokens, start)])
        return logits[0]

    def decode(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """See `Runner.decode`."""
        count = self._check_step(tokens)
        logits = self._compute(0, np.array(tokens)[:, None], np.zeros((count, 1), np.int64))
        self._lengths[:count] += 1
        return logits[:, 0]

    def copy(self, source: int, target: int, length: int) -> None:
        """See `Runner.copy`."""
        self._check_slot(source)
        self._check_slot(target)
        held = self._lengths[source]
        if not 0 <= length <= held:
            raise UsageError(f"slot {source} holds {held} tokens; {length} cannot be copied")
        self._copy(source, target, length)
        self._lengths[target] = length

    def score(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """See `Runner.score`."""
        (logits,) = self.forward([Row(0, tokens, wanted=range(len(tokens)))])
        return logits

    def _computed(self, row: Row) -> NDArray[np.float32]:
        """The logits that are wanted of a row, ``[wanted, vocab]``; it is computed in chunks."""
        tokens = np.array(row.tokens)
        wanted = np.array([len(tokens) - 1] if row.wanted is None else row.wanted, np.int64)
        parts = []
        self._lengths[row.slot] = row.start
        for first in range(0, len(tokens), PREFILL_CHUNK):
            chunk = tokens[first : first + PREFILL_CHUNK]
            inside = wanted[(first <= wanted) & (wanted < first + len(chunk))] - first
            # A graph has logits of at least one place.
            places = inside if len(inside) else np.array([len(chunk) - 1])
            logits = self._compute(row.slot, chunk[None], places[None])[0]
            self._lengths[row.slot] += len(chunk)
            if len(inside):
                parts.append(logits.copy())
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _is_step(self, rows: Sequence[Row]) -> bool:
        """Whether rows are what `decode` computes at once: a token more for the first slots."""
        return all(
            row.slot == place and len(row.tokens) == 1 and row.start == self._lengths[place]
            for place, row in enumerate(rows)
        )

    def _check(self, row: Row) -> None:
        """Makes sure that a row can be computed."""
        self._check_slot(row.slot)
        self._check_tokens(row.tokens)
        if row.start < 0 or row.start + len(row.tokens) > self.max_length:
            raise UsageError(
                f"{len(row.tokens)} tokens from position {row.start} do not fit into a slot for"
                f" {self.max_length}"
            )
        held = self._lengths[row.slot]
        if row.start > held:
            raise UsageError(
                f"slot {row.slot} holds {held} tokens; more cannot start at position {row.start}"
            )
        if row.wanted is not None and not (
            len(row.wanted) and row.wanted[0] >= 0 and row.wanted[-1] < len(row.tokens)
        ):
            raise UsageError(
                f"logits are wanted at places {list(row.wanted)} of {len(row.tokens)} tokens;"
                " expected at least one of those"
            )

    def _check_step(self, tokens: Sequence[int]) -> int:
        """Makes sure that each of the first slots can be given a token; how many those are."""
        self._check_tokens(tokens)
        count = len(tokens)
        if count > self.slots:
            raise UsageError(f"{count} tokens are given for {self.slots} slots")
        if self._lengths[:count].max() >= self.max_length:
            raise UsageError(f"a slot holds {self.max_length} tokens already, all that it can")
        return count

    def _check_slot(self, slot: int) -> None:
        if not 0 <= slot < self.slots:
            raise UsageError(f"there is no slot {slot}; there are {self.slots}, from 0")

    def _check_tokens(self, tokens: Sequence[int]) -> None:
        if not len(tokens):
            raise UsageError("there are no tokens to compute; expected at least one")
        for token in (min(tokens), max(tokens)):
            if not 0 <= token < self._vocabulary:
                raise UsageError(
                    f"there is no token {token}; the vocabulary has {self._vocabulary}, from 0"
                )
