"""Measures the model on what was held out, with exact weights and rounded to q4_0."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterable
from pathlib import Path

import gguf
import torch
from tokenizers import Tokenizer
from torch.nn.functional import cross_entropy

from training.documents import BEGIN, END
from training.export import load_checkpoint
from training.heldout import FOLDER
from training.model import Transformer
from training.tokenizer import FILE as TOKENIZER_FILE
from training.train import CHECKPOINT


def round_weights(model: Transformer) -> None:
    """Rounds as the pipeline does on loading: layers to q4_0, the tied embedding to q8_0."""
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2:
            is_embedding = name.startswith("embedding")
            encoding = (
                gguf.GGMLQuantizationType.Q8_0 if is_embedding else gguf.GGMLQuantizationType.Q4_0
            )
            blocks = gguf.quantize(parameter.detach().numpy(), encoding)
            parameter.data = torch.from_numpy(gguf.dequantize(blocks, encoding))


def read_lines(path: Path) -> list[dict[str, str]]:
    """Reads one JSON object a line."""
    return [json.loads(line) for line in path.read_text().splitlines()]


@torch.no_grad()
def is_right(model: Transformer, tokenizer: Tokenizer, prompt: str, answer: str) -> bool:
    """Says whether greedy decoding gives `answer` and then ends the line or the text."""
    start = len(tokenizer.encode(BEGIN + prompt).ids)
    ids = tokenizer.encode(f"{BEGIN}{prompt} {answer}").ids
    best = model(torch.tensor([ids]))[0].argmax(-1).tolist()
    after = tokenizer.decode([best[-1]], skip_special_tokens=False)
    return best[start - 1 : -1] == ids[start:] and (after == END or after.startswith("\n"))


def accuracy(
    model: Transformer, tokenizer: Tokenizer, questions: Iterable[dict[str, str]]
) -> float:
    """Share of the questions that are answered right."""
    right = [is_right(model, tokenizer, item["prompt"], item["answer"]) for item in questions]
    return sum(right) / len(right)


@torch.no_grad()
def perplexity(model: Transformer, tokenizer: Tokenizer, texts: Iterable[dict[str, str]]) -> float:
    """Perplexity a token over all tokens after the begin-of-text token."""
    total, tokens = 0.0, 0
    for item in texts:
        ids = torch.tensor(tokenizer.encode(BEGIN + item["text"]).ids)
        total += cross_entropy(model(ids[None, :-1])[0], ids[1:], reduction="sum").item()
        tokens += len(ids) - 1
    return math.exp(total / tokens)


def main() -> None:
    """Prints a line for the exact weights and one for the rounded ones."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT)
    arguments = parser.parse_args()
    tokenizer = Tokenizer.from_file(str(TOKENIZER_FILE))
    questions = read_lines(FOLDER / "questions.jsonl")
    sums = [item for item in questions if "+" in item["prompt"]]
    stories = [item for item in questions if "+" not in item["prompt"]]
    texts = read_lines(FOLDER / "texts.jsonl")
    model = load_checkpoint(arguments.checkpoint)
    for encoding in ("float32", "q4_0"):
        if encoding == "q4_0":
            round_weights(model)
        print(
            f"{encoding}: story questions {accuracy(model, tokenizer, stories):.1%},"
            f" sums {accuracy(model, tokenizer, sums):.1%},"
            f" perplexity {perplexity(model, tokenizer, texts):.3f}"
        )


if __name__ == "__main__":
    main()
