"""How far values are from those that they were made of."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


class Difference:
    """What is added up over the rows of a tensor; threads may add rows at once."""

    def __init__(self) -> None:
        self._sums: list[tuple[float, float, float]] = []

    def add(self, values: NDArray[np.float32], written: NDArray[np.float32]) -> None:
        """Takes rows into account, of both the same."""
        off = (values - written).reshape(-1)
        values = values.reshape(-1)
        largest = float(np.abs(off).max(initial=0.0))
        self._sums.append((float(np.vdot(off, off)), float(np.vdot(values, values)), largest))

    @property
    def largest(self) -> float:
        """The largest difference."""
        return max((largest for _, _, largest in self._sums), default=0.0)

    @property
    def relative(self) -> float:
        """The root of the mean square of the differences, as a part of that of the values."""
        off = math.fsum(off for off, _, _ in self._sums)
        size = math.fsum(size for _, size, _ in self._sums)
        return math.sqrt(off / size) if size else 0.0
