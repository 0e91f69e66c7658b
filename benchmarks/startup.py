"""Measures whole processes: from their start to the first byte of text, to their end, and memory.

python -m benchmarks.startup [--runs N]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.report import median, print_machine, print_table

DRIVER = Path(__file__).parent.parent / "run_pipeline.py"
GENERATE = ("llama3", "--max-new-tokens", "32", "--quantization-encoding")


class Process(NamedTuple):
    """What one process took.

    Attributes:
        first_byte_s: From its start to the first byte on its stdout.
        total_s: From its start to its end.
        peak_bytes: Peak resident set.
    """

    first_byte_s: float
    total_s: float
    peak_bytes: int


def run(arguments: Sequence[str], cache: str) -> Process:
    """Runs the driver to its end, see `run_command`."""
    return run_command([sys.executable, str(DRIVER), *arguments], cache)


def run_command(command: Sequence[str], cache: str) -> Process:
    """Runs a program to its end, with the bytecode of its modules kept as it is anywhere.

    Args:
        command: The program and its arguments.
        cache: The folder of the driver's cache.

    Raises:
        subprocess.CalledProcessError: It failed.
    """
    environment = {**os.environ, "RUN_PIPELINE_CACHE": cache}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # images of build machines set it
    start = time.perf_counter()
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
    ) as process:
        assert process.stdout is not None
        process.stdout.read(1)
        first_byte = time.perf_counter()
        process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    end = time.perf_counter()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    unit = 1 if sys.platform == "darwin" else 1024
    return Process(first_byte - start, end - start, usage.ru_maxrss * unit)


def measure(arguments: Sequence[str], runs: int, *, warm: bool) -> Process:
    """Medians of `runs` processes that share a cache, or of ones that start with an empty one."""
    with tempfile.TemporaryDirectory() as shared:
        if warm:
            run(arguments, shared)
            done = [run(arguments, shared) for _ in range(runs)]
        else:
            done = []
            for _ in range(runs):
                with tempfile.TemporaryDirectory() as empty:
                    done.append(run(arguments, empty))
    first_bytes, totals, peaks = zip(*done, strict=True)
    return Process(median(first_bytes), median(totals), int(median(peaks)))


def main() -> None:
    """Reads the command line, measures, prints."""
    parser = argparse.ArgumentParser(description="Measures how fast the driver starts.")
    parser.add_argument("--runs", type=int, default=9, help="runs to take the median of")
    parser.add_argument("--cold-runs", type=int, default=3, help="the same, with an empty cache")
    arguments = parser.parse_args()
    print_machine()
    rows = []
    for label, command, warm in (
        ("`--help`", ("--help",), True),
        ("`list`", ("list",), True),
        ("bundled model, q4_0, graph cached", (*GENERATE, "q4_0"), True),
        ("bundled model, float32, graph cached", (*GENERATE, "float32"), True),
        ("bundled model, q4_0, empty cache", (*GENERATE, "q4_0"), False),
        ("bundled model, float32, empty cache", (*GENERATE, "float32"), False),
    ):
        runs = arguments.runs if warm else arguments.cold_runs
        process = measure(command, runs, warm=warm)
        rows.append((label, process.first_byte_s, process.total_s, process.peak_bytes / 2**20))
    print_table(["process", "first byte, s", "whole, s", "peak memory, MiB"], rows)


if __name__ == "__main__":
    main()
