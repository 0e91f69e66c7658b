"""Where weights reach an amount, in order of other values."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_FEW = 2048
"""How many are sorted as they are."""

_BITS = 15
"""Of float32, which values of a bucket may differ in."""


def reached(values: NDArray[np.float32], weights: NDArray[np.float32], amount: float) -> float:
    """The least value at which the weights of all values up to it exceed an amount; else the last.

    Args:
        values: At least 0, shape ``[n]``, n being 1 or more.
        weights: Of each, at least 0, shape ``[n]``.
        amount: Below the sum of the weights, but for rounding.
    """
    before = 0.0
    if values.size > _FEW:
        # To sort a vocabulary would take most of the time: buckets are found by the bits, which are
        # in the order of the values, and only the one that it happens in is sorted.
        buckets = (values.view(np.int32) >> _BITS).astype(np.intp)
        # It is seven times as fast with what it would convert itself.
        sums = np.cumsum(np.bincount(buckets, weights.astype(np.float64)))
        bucket = min(int(np.searchsorted(sums, amount, side="right")), sums.size - 1)
        before = float(sums[bucket - 1]) if bucket else 0.0
        inside = buckets == bucket
        values, weights = values[inside], weights[inside]
    order = np.argsort(values, kind="stable")
    running = np.cumsum(weights[order], dtype=np.float64)
    place = int(np.searchsorted(running, amount - before, side="right"))
    return float(values[order[min(place, values.size - 1)]])
