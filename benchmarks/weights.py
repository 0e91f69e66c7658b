"""Measures how tensors come into memory: mapped from the file, or read from it.

python -m benchmarks.weights MODEL [--runs N]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.report import median, print_machine, print_table
from benchmarks.startup import DRIVER
from pipelines.common.checkpoints.opening import STRATEGIES

_MIB = 2**20


def run(model: Path, weights: str, encoding: str) -> dict[str, Any]:
    """The record of a short run.

    Raises:
        subprocess.CalledProcessError: It failed.
    """
    command = [sys.executable, str(DRIVER), "run", str(model), "--weights", weights, "--json"]
    command += ["--prompt", "hi", "--max-new-tokens", "4", "--quantization-encoding", encoding]
    done = subprocess.run(command, capture_output=True, check=True)
    record: dict[str, Any] = json.loads(done.stdout)
    return record


def main() -> None:
    """Reads the command line, measures in turns, prints."""
    parser = argparse.ArgumentParser(description="Measures mapping against reading weights.")
    parser.add_argument("model", type=Path, help="a model file, or its folder")
    parser.add_argument("--runs", type=int, default=5, help="pairs of runs to take medians of")
    parser.add_argument("--encoding", default="auto", help="what the matrices run in")
    arguments = parser.parse_args()
    print_machine()
    records: dict[str, list[dict[str, Any]]] = {weights: [] for weights in STRATEGIES}
    run(arguments.model, STRATEGIES[0], arguments.encoding)  # fills the caches
    for _ in range(arguments.runs):
        for weights, done in records.items():
            done.append(run(arguments.model, weights, arguments.encoding))
    rows = []
    for weights, done in records.items():
        starts = [record["timings"]["start_to_first_token_s"] for record in done]
        peaks = [record["peak_memory_bytes"] / _MIB for record in done]
        own = [record["anonymous_memory_bytes"] / _MIB for record in done]
        rows.append((f"`{weights}`", median(starts), median(peaks), median(own)))
    print_table(["weights", "first token, s", "peak memory, MiB", "anonymous, MiB"], rows)
    first, second = (records[weights] for weights in STRATEGIES)
    ratios = [
        two["timings"]["start_to_first_token_s"] / one["timings"]["start_to_first_token_s"]
        for one, two in zip(first, second, strict=True)
    ]
    print(f"\nstart-up, {STRATEGIES[1]} / {STRATEGIES[0]}, pair by pair: {median(ratios):.2f}")


if __name__ == "__main__":
    main()
