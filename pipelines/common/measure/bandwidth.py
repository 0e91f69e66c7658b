"""How fast all cores together read memory: what generating text cannot be faster than."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from pipelines.common.system import cores

_CHUNK = 1 << 20
"""Elements that are read at a time: 8 MiB, so that handing them out costs nothing."""


@contextmanager
def numpy_bandwidth(gibibytes: float = 1) -> Iterator[NumPyBandwidth]:
    """Gets ready to measure, on a buffer that no cache holds.

    Args:
        gibibytes: Size of the buffer.
    """
    with ThreadPoolExecutor(cores()) as pool:
        yield NumPyBandwidth(gibibytes, pool)


class NumPyBandwidth:
    """Looks for the largest of 8-byte integers: one load and one instruction a vector.

    A program that does nothing but read reaches somewhat more.

    Attributes:
        method: What reads.
    """

    method = "NumPy"

    def __init__(self, gibibytes: float, pool: ThreadPoolExecutor) -> None:
        self._data = np.ones(int(gibibytes * 2**30) // 8, np.int64)
        self._pool = pool

    def measure(self) -> float:
        """Bytes a second, now."""
        return statistics.median(self._pass() for _ in range(3))

    def _pass(self) -> float:
        chunks = iter(range(0, self._data.size, _CHUNK))
        start = time.perf_counter()
        for future in [self._pool.submit(_read, self._data, chunks) for _ in range(cores())]:
            future.result()
        return self._data.nbytes / (time.perf_counter() - start)


def _read(data: NDArray[np.int64], chunks: Iterator[int]) -> None:
    for start in chunks:
        data[start : start + _CHUNK].max()
