"""Penalties for tokens that have occurred: for repetition, presence and frequency.

Keskar et al. 2019, "CTRL", for the first; the others are OpenAI's, see
https://platform.openai.com/docs/api-reference/completions/create.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.common.engine.sampling.sampler import LARGEST, Candidates, Sampler, Setup

_LEAST = float(np.finfo(np.float32).tiny)


class Penalties(Sampler):
    """Lowers the logits of tokens among the last of the prompt and the output.

    A logit is divided by the penalty for repetition, or multiplied where it is negative; then
    ``presence + frequency * count`` is taken from it.

    Args:
        repetition: Above 0.
        presence: For having occurred.
        frequency: For each time.
        last: How many of the last tokens count; -1 for all.
    """

    def __init__(self, repetition: float, presence: float, frequency: float, last: int) -> None:
        # In float32, as the logits; what it cannot hold is as good as its ends.
        self._repetition = np.float32(min(max(repetition, _LEAST), LARGEST))
        self._presence = presence
        self._frequency = frequency
        self._last = last
        self._counts: Counter[int] = Counter()
        self._counted = range(0)

    def apply(self, candidates: Candidates, history: Sequence[int]) -> Candidates:
        """See `Sampler.apply`."""
        self._count(history)
        counts = self._counts
        return candidates.plus(np.fromiter(counts, np.intp, len(counts)), self._penalized)

    def _penalized(self, logits: NDArray[np.float32], places: NDArray[np.intp]) -> NDArray[Any]:
        penalized = np.where(logits < 0, logits * self._repetition, logits / self._repetition)
        if not (self._presence or self._frequency):
            return penalized
        counts = np.fromiter(self._counts.values(), np.float64, len(self._counts))[places]
        return penalized - (self._presence + self._frequency * counts)

    def _count(self, history: Sequence[int]) -> None:
        """Counts what has come since, and no longer what has left the window."""
        start = 0 if self._last < 0 else max(0, len(history) - self._last)
        before = self._counted
        self._counted = range(start, len(history))
        self._counts.update(history[max(before.stop, start) :])
        for token in history[before.start : min(before.stop, start)]:
            self._counts[token] -= 1
            if not self._counts[token]:
                del self._counts[token]


def penalties(setup: Setup) -> Sampler | None:
    """Off where none is asked for, and for a window of 0 tokens."""
    params = setup.params
    amounts = (params.repetition_penalty, params.presence_penalty, params.frequency_penalty)
    if amounts == (1, 0, 0) or params.repeat_last_n == 0:
        return None
    return Penalties(*amounts, params.repeat_last_n)
