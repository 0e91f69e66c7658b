"""Measures how fast all cores together read memory: what decoding cannot be faster than.

python -m benchmarks.bandwidth [--gibibytes N] [--runs N]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from benchmarks.report import cores, print_machine, print_table

_CHUNK = 1 << 20
"""Elements a thread reads at a time: 8 MiB, so that handing them out costs nothing."""


def read_bandwidth(gibibytes: float = 2, runs: int = 8) -> list[float]:
    """Bytes a second of some passes over a buffer that no cache holds, best first.

    The largest of 8-byte integers is looked for: one load and one instruction a vector.

    Args:
        gibibytes: Size of the buffer.
        runs: Number of passes.
    """
    data = np.ones(int(gibibytes * 2**30) // 8, np.int64)
    with ThreadPoolExecutor(cores()) as pool:
        return sorted((_pass(data, pool) for _ in range(runs)), reverse=True)


def _pass(data: NDArray[np.int64], pool: ThreadPoolExecutor) -> float:
    chunks = iter(range(0, data.size, _CHUNK))
    start = time.perf_counter()
    for future in [pool.submit(_read, data, chunks) for _ in range(cores())]:
        future.result()
    return data.nbytes / (time.perf_counter() - start)


def _read(data: NDArray[np.int64], chunks: Iterator[int]) -> None:
    for start in chunks:
        data[start : start + _CHUNK].max()


def main() -> None:
    """Reads the command line, measures, prints."""
    parser = argparse.ArgumentParser(description="Measures the memory's read bandwidth.")
    parser.add_argument("--gibibytes", type=float, default=2, help="size of the buffer")
    parser.add_argument("--runs", type=int, default=8, help="passes over it")
    arguments = parser.parse_args()
    print_machine()
    rates = read_bandwidth(arguments.gibibytes, arguments.runs)
    print_table(
        ["read bandwidth", "GB/s"],
        [
            ("best", rates[0] / 1e9),
            ("median", rates[len(rates) // 2] / 1e9),
            ("worst", rates[-1] / 1e9),
        ],
    )


if __name__ == "__main__":
    main()
