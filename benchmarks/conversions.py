"""Loads what `convert` and `quantize` write in llama.cpp, and compares what both make of it.

    python -m benchmarks.conversions [MODEL]

MODEL, or the bundled model, is written in every encoding. Each file runs here in `auto`, and in
llama.cpp: both continue a text greedily, and read the first held-out texts of the bundled model.
A file that llama.cpp does not load ends it with an error.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmarks.agreement import Logits, heldout_text, llama_cpp
from benchmarks.bench import llama_cpp_version
from benchmarks.engine import ROOT
from benchmarks.quality import Scores, Variant, log_probabilities
from benchmarks.report import print_machine, print_table
from pipelines.common.conversion.wanted import REQUESTS
from pipelines.common.errors import PipelineError
from pipelines.llama3.pipeline import BUNDLED

PROMPT = "Once upon a time"
NEW_TOKENS = 64
TOP = 10
READ = 480
"""Tokens of the held-out texts that are read together."""


def write(model: Path, out: Path, encoding: str | None) -> None:
    """Writes a model with the command that users have.

    Args:
        model: What is written.
        out: The file.
        encoding: What `quantize` is asked for; None for `convert`.
    """
    command = ["convert"] if encoding is None else ["quantize", "--encoding", encoding]
    program = [sys.executable, str(ROOT / "run_pipeline.py")]
    subprocess.run([*program, *command, str(model), str(out), "--quiet"], check=True)


def continued(logits: Logits, ids: Sequence[int]) -> list[int]:
    """The likeliest tokens after some others, one after the other."""
    text = [*ids]
    for _ in range(NEW_TOKENS):
        text.append(int(logits(text)[-1].argmax()))
    return text[len(ids) :]


def compared(file: Path, python: str) -> tuple[float, int, float, float, float]:
    """What llama.cpp makes of a file, beside this project.

    Args:
        file: A GGUF file.
        python: The interpreter that has llama.cpp.

    Returns:
        MiB of the file, how many tokens of the continuation are alike before one differs, how
        often the first choice after a token is the same (%), the mean difference of the logits of
        the `TOP` likeliest tokens, and the mean divergence (nats).
    """
    ours = Variant.start(file, "auto", "cpu")
    prompt = ours.tokenizer.encode(PROMPT)
    text = ours.tokenizer.encode(heldout_text())[:READ]
    read = ours.runner.score(text)
    with llama_cpp(python, file, read.shape[1]) as theirs:
        pairs = zip(continued(ours.runner.score, prompt), continued(theirs, prompt), strict=True)
        alike = next((n for n, (mine, other) in enumerate(pairs) if mine != other), NEW_TOKENS)
        other = theirs(text)
    scores = Scores()
    scores.add(text, log_probabilities(read), log_probabilities(other))
    top = np.argsort(read, axis=-1)[:, -TOP:]
    apart = np.abs(np.take_along_axis(read - other, top, -1)).mean()
    size = file.stat().st_size / 2**20
    return size, alike, scores.agreement, float(apart), scores.mean_divergence


def measure(model: Path, python: str) -> Iterator[tuple[object, ...]]:
    """A row for each way to write a model."""
    with tempfile.TemporaryDirectory() as folder:
        for encoding in (None, *REQUESTS):
            file = Path(folder) / f"{encoding or 'convert'}.gguf"
            write(model, file, encoding)
            yield (encoding or "as stored (`convert`)", *compared(file, python))


def main() -> None:
    """Reads the command line, measures, prints."""
    parser = argparse.ArgumentParser(description="Loads what is written in llama.cpp.")
    parser.add_argument("model", type=Path, nargs="?", default=BUNDLED, metavar="MODEL")
    parser.add_argument(
        "--llama-python", default=sys.executable, help="interpreter that has llama-cpp-python"
    )
    arguments = parser.parse_args()
    print(f"- llama.cpp: {llama_cpp_version(arguments.llama_python)}")
    print_machine()
    print_table(
        [
            "written in",
            "MiB",
            f"greedy tokens alike, of {NEW_TOKENS}",
            "same first choice, %",
            f"logits of the {TOP} likeliest apart by",
            "KL divergence, nats",
        ],
        measure(arguments.model, arguments.llama_python),
    )


if __name__ == "__main__":
    try:
        main()
    except PipelineError as error:
        sys.exit(f"error: {error}")
