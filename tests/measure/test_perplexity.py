"""Windows of a text, and what they are scored."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from tiny_models import open_model

from pipelines.common.errors import UsageError
from pipelines.common.measure.perplexity import Mean, Scores, perplexity, windows
from pipelines.common.program.runner import Runner

TEXT = "Once upon a time there was a little girl named Lily. She liked to play outside. " * 20
SIZE = 64


def test_windows_are_those_of_llama_cpp() -> None:
    tokenizer = open_model(None).tokenizer
    tokens = [tokenizer.bos_id, *range(10)]
    assert windows(tokens, 4, tokenizer) == [
        [tokenizer.bos_id, 0, 1, 2],
        [tokenizer.bos_id, 4, 5, 6],  # in the place of its own first one
    ]
    with pytest.raises(UsageError, match="the text has 11 tokens, fewer than the 12 of a window"):
        windows(tokens, 12, tokenizer)


def test_mean_and_error_are_those_of_numpy() -> None:
    numbers = np.random.default_rng(0).normal(3, 1, 100)
    mean = Mean()
    for part in np.split(numbers, [1, 40]):
        mean.add(part)
    assert mean.value == pytest.approx(numbers.mean())
    assert mean.error == pytest.approx(numbers.std(ddof=1) / 10)


def test_one_number_has_no_error() -> None:
    mean = Mean()
    mean.add(np.array([2.0]))
    assert (mean.value, mean.error) == (2.0, 0.0)


def started(target: str, encoding: str, size: int = SIZE) -> Runner:
    return open_model(None, target=target, encoding=encoding).start(slots=1, max_length=size)


def test_scores_are_those_of_a_computation_in_float64() -> None:
    tokenizer = open_model(None).tokenizer
    parts = windows(tokenizer.encode(TEXT), SIZE, tokenizer)[:3]
    runner, reference, scores = started("cpu", "float32"), started("torch", "q4_0"), Scores()
    surprises, divergences, agreed = [], [], 0
    for part in parts:
        scores.read(part, runner, reference)
        found = torch.from_numpy(started("torch", "float32").score(part)).double().log_softmax(-1)
        other = torch.from_numpy(started("torch", "q4_0").score(part)).double().log_softmax(-1)
        for place in range(SIZE // 2, SIZE - 1):
            surprises.append(-found[place, part[place + 1]].item())
            divergences.append((other[place].exp() * (other[place] - found[place])).sum().item())
            agreed += int(found[place].argmax() == other[place].argmax())
    assert scores.surprise.count == len(surprises) == 3 * (SIZE // 2 - 1)
    assert perplexity(scores.surprise)[0] == pytest.approx(math.exp(np.mean(surprises)), rel=1e-5)
    assert scores.divergence.value == pytest.approx(np.mean(divergences), rel=1e-3)
    assert scores.agreed == agreed
    assert 0 < agreed < len(surprises)


class Counting:
    """A runner that knows no more than how many tokens it was given."""

    def __init__(self, vocabulary: int) -> None:
        self.vocabulary = vocabulary
        self.rows: list[tuple[int, int, list[int] | None]] = []

    def forward(self, rows):  # type: ignore[no-untyped-def]
        ((row),) = rows
        wanted = None if row.wanted is None else list(row.wanted)
        self.rows.append((row.start, len(row.tokens), wanted and [wanted[0], wanted[-1]]))
        return [np.zeros((1 if wanted is None else len(wanted), self.vocabulary), np.float32)]


def test_only_wanted_logits_are_computed_and_long_windows_in_parts() -> None:
    runner, scores = Counting(8), Scores()
    scores.read([1] * 2000, runner)  # type: ignore[arg-type]
    assert runner.rows == [
        (0, 512, None),
        (512, 512, [488, 511]),
        (1024, 512, [0, 511]),
        (1536, 463, [0, 462]),
    ]
    assert scores.surprise.count == 999
    assert perplexity(scores.surprise) == (pytest.approx(8), pytest.approx(0, abs=1e-6))


def test_models_of_other_vocabularies_cannot_be_compared() -> None:
    with pytest.raises(UsageError, match="the models have 8 and 9 tokens; expected as many"):
        Scores().read([1] * 8, Counting(8), Counting(9))  # type: ignore[arg-type]
