"""Times what choosing a token takes, in processor time.

    python -m benchmarks.sampling [--vocabulary 128256] [--tokens 1000] [--runs 50]

Logits are random, with a few that stand out as those of models do, and so are the tokens before.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from benchmarks.report import print_machine, print_table
from pipelines.common.engine.sampling import SamplingParams
from pipelines.common.engine.sampling.chain import Chain
from pipelines.echo.pipeline import EchoModel

WARM: Final = {"temperature": 0.8}
CASES: Final[Mapping[str, dict[str, Any]]] = {
    "greedy": {},
    "greedy, repetition penalty": {"repetition_penalty": 1.1},
    "temperature": WARM,
    "temperature, top-k 40": {**WARM, "top_k": 40},
    "temperature, top-p 0.95": {**WARM, "top_p": 0.95},
    "temperature, min-p 0.05": {**WARM, "min_p": 0.05},
    "temperature, top-k 40, top-p 0.95, min-p 0.05": {
        **WARM,
        "top_k": 40,
        "top_p": 0.95,
        "min_p": 0.05,
    },
    "temperature, typical-p 0.9": {**WARM, "typical_p": 0.9},
    "temperature, top-n-sigma 1": {**WARM, "top_n_sigma": 1.0},
    "temperature, XTC": {**WARM, "xtc_probability": 0.5},
    "temperature, DRY": {**WARM, "dry_multiplier": 0.8},
    "temperature, frequency penalty": {**WARM, "frequency_penalty": 0.5},
}


def main() -> None:
    """Reads the command line, runs, prints."""
    parser = argparse.ArgumentParser(description="Times what choosing a token takes.")
    parser.add_argument("--vocabulary", type=int, default=128256)
    parser.add_argument("--tokens", type=int, default=1000, help="of prompt and output so far")
    parser.add_argument("--runs", type=int, default=50)
    asked = parser.parse_args()
    print_machine()
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 2, asked.vocabulary).astype(np.float32)
    logits[generator.integers(asked.vocabulary, size=20)] += 12
    tokens = generator.integers(asked.vocabulary, size=asked.tokens).tolist()
    chains = {
        name: Chain(SamplingParams(**case), EchoModel().tokenizer) for name, case in CASES.items()
    }
    seconds: dict[str, list[float]] = {name: [] for name in chains}
    for chain in chains.values():
        chain.observe(tokens)
    large = np.ones(1 << 22)
    del large  # after which the allocator keeps what is freed, as it does once a model is loaded
    for _ in range(asked.runs):  # in turns, so that all meet the same moments of the machine
        for name, chain in chains.items():
            start = time.process_time()
            chain.sample(logits)
            seconds[name].append(time.process_time() - start)
    rows = [[name, f"{statistics.median(taken) * 1e6:,.0f}"] for name, taken in seconds.items()]
    print_table(["settings", "us of processor time"], rows)


if __name__ == "__main__":
    main()
