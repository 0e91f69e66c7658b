"""Measures how fast stored weights are made into what runs.

python -m benchmarks.prepare [--rows N] [--columns N] [--runs N]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.report import median, print_machine, print_table
from pipelines.common.encodings import BF16, BLOCKS, ENCODINGS, F16, Q4_0, Q8_0, Encoding
from pipelines.common.encodings.convert import dequantize, quantize
from pipelines.common.ort import layouts


def figure(
    made: str, work: Callable[[Encoding, Any], object], encoding: Encoding, data: Any, runs: int
) -> tuple[str, str, float]:
    """What is made of what, and at how many GB/s of the latter.

    Args:
        made: Name of what `work` makes.
        work: Gets `encoding` and `data`.
        encoding: What to make, or to make it from.
        data: A matrix.
        runs: Number of runs; their median counts. One before them warms up.
    """
    work(encoding, data)
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        work(encoding, data)
        seconds.append(time.perf_counter() - start)
    stored = "float32" if data.dtype == np.float32 else encoding.name
    return made, stored, data.nbytes / median(seconds) / 1e9


def lay_out(encoding: Encoding, raw: NDArray[np.uint8]) -> list[NDArray[Any]]:
    """All the tensors that the cpu target makes of a matrix in a block encoding."""
    tensors: list[NDArray[Any]] = [layouts.codes(encoding, raw), layouts.scales(encoding, raw)]
    if encoding.coded is not None and encoding.coded.offsets is not None:
        tensors.append(layouts.offsets(encoding, raw))
    return tensors


def stored(encoding: Encoding, values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """A matrix as a file has it; in an encoding that nothing here can write, some matrix."""
    if encoding.encode is not None:
        return quantize(encoding, values)
    assert encoding.coded is not None
    rows, columns = values.shape
    raw = np.random.default_rng(0).integers(0, 256, (rows, encoding.row_bytes(columns)), np.uint8)
    raw.reshape(-1).view(encoding.coded.dtype)["d"] = 2.0**-14
    return raw


def figures(rows: int, columns: int, runs: int) -> Iterator[tuple[str, str, float]]:
    """A `figure` for each preparation there is, of normally distributed weights."""
    values = np.random.default_rng(0).standard_normal((rows, columns), np.float32)
    for name in BLOCKS:
        encoding = ENCODINGS[name]
        yield figure("codes and scales", lay_out, encoding, stored(encoding, values), runs)
    for encoding in (F16, BF16, *map(ENCODINGS.__getitem__, BLOCKS)):
        yield figure("float32", dequantize, encoding, stored(encoding, values), runs)
    for encoding in (Q4_0, Q8_0):
        yield figure(encoding.name, quantize, encoding, values, runs)


def main() -> None:
    """Reads the command line, measures, prints."""
    parser = argparse.ArgumentParser(description="Measures the preparation of weights.")
    parser.add_argument("--rows", type=int, default=14336, help="rows of the matrix")
    parser.add_argument("--columns", type=int, default=4096, help="its columns")
    parser.add_argument("--runs", type=int, default=15, help="runs to take the median of")
    arguments = parser.parse_args()
    print_machine()
    print_table(
        ["made", "from", "GB/s of the latter"],
        figures(arguments.rows, arguments.columns, arguments.runs),
    )


if __name__ == "__main__":
    main()
