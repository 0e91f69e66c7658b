"""Measures what running in fewer bits does to answers: accuracy, perplexity, agreement.

    python -m benchmarks.quality [MODEL.gguf]

The bundled model's held-out questions and texts are asked of every variant. Where variants are
compared, each reads the same text (teacher forcing), so that one early difference does not make
everything after it differ.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.report import print_machine, print_table
from pipelines.common.program.runner import Runner
from pipelines.common.progress import Progress
from pipelines.common.registry.registry import Registry
from pipelines.common.text.tokenizer import Tokenizer
from pipelines.common.text_generation import ModelOptions

HELDOUT = Path(__file__).parent.parent / "training" / "heldout"
REFERENCE = ("float32", "cpu")
VARIANTS = (("q8_0", "cpu"), ("q4_0", "cpu"), ("q4_0", "torch"))
"""On torch the products of q4_0 are exact: what is left is the rounding of the weights."""


@dataclass(frozen=True)
class Variant:
    """A running model."""

    tokenizer: Tokenizer
    runner: Runner
    context_length: int

    @classmethod
    def start(cls, path: Path | None, encoding: str, target: str, longest: int = 2048) -> Variant:
        """Starts the model `path`, or the bundled one, for texts of up to `longest` tokens."""
        registry = Registry.discover()
        options = ModelOptions(model_path=path, encoding=encoding, target=target)
        model = registry.load_pipeline("llama3").open(options, registry, Progress())
        length = min(model.context_length, longest)
        return cls(model.tokenizer, model.start(slots=1, max_length=length), length)

    def answers(self, prompt: str, answer: str) -> bool:
        """Whether greedy decoding gives `answer` and then ends the line or the text."""
        asked = len(self.tokenizer.encode(prompt))
        ids = self.tokenizer.encode(f"{prompt} {answer}")
        best = self.runner.score(ids).argmax(-1).tolist()
        ends = best[-1] in self.tokenizer.end_ids
        ends = ends or self.tokenizer.token_bytes(best[-1]).startswith(b"\n")
        return bool(best[asked - 1 : -1] == ids[asked:]) and ends

    def log_probabilities(self, ids: Sequence[int]) -> NDArray[np.float64]:
        """Of every token after each of `ids`: ``[len(ids), vocabulary]``."""
        return log_probabilities(self.runner.score(ids))


def log_probabilities(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """What logits say, ``[..., vocabulary]``."""
    values = logits.astype(np.float64)
    values -= values.max(-1, keepdims=True)
    return values - np.log(np.exp(values).sum(-1, keepdims=True))


@dataclass
class Scores:
    """Sums over all tokens of the texts."""

    tokens: int = 0
    surprise: float = 0.0
    agreed: int = 0
    divergence: float = 0.0

    def add(
        self,
        ids: Sequence[int],
        reference: NDArray[np.float64],
        found: NDArray[np.float64],
    ) -> None:
        """Takes in a text: log-probabilities ``[tokens, vocabulary]`` of reference and variant."""
        self.tokens += len(ids) - 1
        self.surprise -= found[np.arange(len(ids) - 1), ids[1:]].sum()
        reference, found = reference[:-1], found[:-1]
        self.agreed += int((reference.argmax(-1) == found.argmax(-1)).sum())
        self.divergence += (np.exp(reference) * (reference - found)).sum()

    @property
    def perplexity(self) -> float:
        """Of a token."""
        return float(np.exp(self.surprise / self.tokens))

    @property
    def agreement(self) -> float:
        """How often the first choice is the reference's, in percent."""
        return 100 * self.agreed / self.tokens

    @property
    def mean_divergence(self) -> float:
        """From the reference, in nats a token."""
        return self.divergence / self.tokens


def measure(
    path: Path | None, questions: Iterable[dict[str, str]], texts: Iterable[dict[str, str]]
) -> Iterator[tuple[str, float, float, float, float, float]]:
    """A row for each variant.

    Yields:
        Name, accuracy in stories and in sums (%), perplexity, top-1 agreement (%), mean divergence.
    """
    questions, texts = list(questions), list(texts)
    reference = Variant.start(path, *REFERENCE)
    prompts = [reference.tokenizer.encode(item["text"]) for item in texts]
    prompts = [ids[: reference.context_length] for ids in prompts]
    expected = [reference.log_probabilities(ids) for ids in prompts]
    sums = [item for item in questions if "+" in item["prompt"]]
    stories = [item for item in questions if "+" not in item["prompt"]]
    for encoding, target in (REFERENCE, *VARIANTS):
        variant = Variant.start(path, encoding, target)
        scores = Scores()
        for ids, log_probabilities in zip(prompts, expected, strict=True):
            scores.add(ids, log_probabilities, variant.log_probabilities(ids))
        yield (
            f"{encoding}, {target}",
            _accuracy(variant, stories),
            _accuracy(variant, sums),
            scores.perplexity,
            scores.agreement,
            scores.mean_divergence,
        )


def _accuracy(variant: Variant, questions: Sequence[dict[str, str]]) -> float:
    right = sum(variant.answers(item["prompt"], item["answer"]) for item in questions)
    return 100 * right / len(questions)


def _lines(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def main() -> None:
    """Reads the command line, measures, prints."""
    parser = argparse.ArgumentParser(description="Compares encodings on held-out questions.")
    parser.add_argument("model", type=Path, nargs="?", metavar="MODEL.gguf")
    arguments = parser.parse_args()
    print_machine()
    print_table(
        [
            "weights, target",
            "stories right, %",
            "sums right, %",
            "perplexity a token",
            "same first choice as float32, %",
            "KL divergence from it, nats",
        ],
        measure(
            arguments.model, _lines(HELDOUT / "questions.jsonl"), _lines(HELDOUT / "texts.jsonl")
        ),
    )


if __name__ == "__main__":
    main()
