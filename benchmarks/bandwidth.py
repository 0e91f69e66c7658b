"""Measures how fast all cores together read memory: what decoding cannot be faster than.

    python -m benchmarks.bandwidth [--gibibytes N] [--runs N]

A small C++ program does the reading (`bandwidth.cpp`), compiled for the machine that it runs on.
Without a compiler NumPy does; it reaches less, so whoever prints its figures names it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from benchmarks.report import median, print_machine, print_table
from pipelines.common.errors import PipelineError
from pipelines.common.measure.bandwidth import numpy_bandwidth
from pipelines.common.system import cores

SOURCE = Path(__file__).with_name("bandwidth.cpp")
COMPILE = ("c++", "-std=c++17", "-O3", "-march=native", "-pthread")


class BandwidthError(PipelineError):
    """The program that measures cannot be made, or failed."""


class Bandwidth(Protocol):
    """Something that measures the read bandwidth whenever it is asked to."""

    @property
    def method(self) -> str:
        """What reads: ``C++`` or ``NumPy``."""

    def measure(self) -> float:
        """Bytes a second, now."""


@contextmanager
def bandwidth(gibibytes: float = 1) -> Iterator[Bandwidth]:
    """Gets ready to measure, on a buffer that no cache holds.

    Says so on stderr if there is no compiler and NumPy measures instead.

    Args:
        gibibytes: Size of the buffer.

    Raises:
        BandwidthError: There is a compiler, but it cannot compile the program.
    """
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "bandwidth"
        try:
            subprocess.run(
                [*COMPILE, str(SOURCE), "-o", str(program)],
                check=True,
                capture_output=True,
                text=True,
            )
        except FileNotFoundError:
            print(
                f"no C++ compiler ({COMPILE[0]}) to measure the read bandwidth with: NumPy does,"
                " which reaches less, so that shares of it are too high",
                file=sys.stderr,
            )
            with numpy_bandwidth(gibibytes) as source:
                yield source
            return
        except subprocess.CalledProcessError as error:
            first_line = error.stderr.strip().partition("\n")[0]
            raise BandwidthError(f"cannot compile {SOURCE}: {first_line}") from None
        with subprocess.Popen(
            [program, str(gibibytes), str(cores())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        ) as process:
            yield _CompiledBandwidth(process)


class _CompiledBandwidth:
    """Asks the program, which sleeps in between."""

    method = "C++"

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def measure(self) -> float:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        answer = self._process.stdout.readline()
        if not answer:
            raise BandwidthError(f"the program of {SOURCE} ended with {self._process.wait()}")
        return float(answer)


def read_bandwidth(gibibytes: float = 1, runs: int = 8) -> list[float]:
    """Bytes a second of some measurements, best first.

    Args:
        gibibytes: Size of the buffer.
        runs: Number of measurements.
    """
    with bandwidth(gibibytes) as source:
        return sorted((source.measure() for _ in range(runs)), reverse=True)


def main() -> None:
    """Reads the command line, measures, prints."""
    parser = argparse.ArgumentParser(description="Measures the memory's read bandwidth.")
    parser.add_argument("--gibibytes", type=float, default=1, help="size of the buffer")
    parser.add_argument("--runs", type=int, default=8, help="measurements")
    arguments = parser.parse_args()
    print_machine()
    with bandwidth(arguments.gibibytes) as source:
        rates = [source.measure() for _ in range(arguments.runs)]
        method = source.method
    print_table(
        [f"read bandwidth ({method})", "GB/s"],
        [
            ("best", max(rates) / 1e9),
            ("median", median(rates) / 1e9),
            ("worst", min(rates) / 1e9),
        ],
    )


if __name__ == "__main__":
    main()
