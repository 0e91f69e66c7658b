"""How well a model expects a text, and how near it comes to another one.

A text is cut up and scored as llama.cpp's tool does it by default:
https://github.com/ggml-org/llama.cpp/blob/master/tools/perplexity/perplexity.cpp
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipelines.common.engine.logprobs import log_softmax
from pipelines.common.errors import UsageError
from pipelines.common.program.runner import PREFILL_CHUNK, Row, Runner
from pipelines.common.text.tokenizer import Tokenizer

LEAST_WINDOW = 4
"""Fewest tokens of a window; of shorter ones hardly any would be scored."""


def windows(tokens: Sequence[int], size: int, tokenizer: Tokenizer) -> list[list[int]]:
    """A text in parts that do not overlap; a rest that is shorter is left out.

    Where the model expects a text to begin with a token of its own, that takes the place of the
    first one of each part.

    Args:
        tokens: The text.
        size: Tokens of a part, `LEAST_WINDOW` at the least.
        tokenizer: The model's.

    Raises:
        UsageError: There are fewer tokens than one part has.
    """
    if len(tokens) < size:
        raise UsageError(
            f"the text has {len(tokens)} tokens, fewer than the {size} of a window; give a longer"
            " text, or make `context` smaller"
        )
    begins = [tokenizer.bos_id] if tokenizer.adds_bos and tokenizer.bos_id is not None else []
    parts = (tokens[start : start + size] for start in range(0, len(tokens) - size + 1, size))
    return [[*begins, *part[len(begins) :]] for part in parts]


@dataclass
class Mean:
    """The mean of numbers, and how sure it is.

    Attributes:
        count: How many there are.
    """

    count: int = 0
    _sum: float = 0.0
    _squares: float = 0.0

    def add(self, numbers: NDArray[np.float64]) -> None:
        """Takes in some, ``[n]``."""
        self.count += numbers.size
        self._sum += float(numbers.sum())
        self._squares += float(np.square(numbers).sum())

    @property
    def value(self) -> float:
        """The mean."""
        return self._sum / self.count

    @property
    def error(self) -> float:
        """Its standard error; 0 of a single number."""
        variance = max(0.0, self._squares / self.count - self.value**2)
        return math.sqrt(variance / max(1, self.count - 1))


@dataclass
class Scores:
    """What the windows that were read so far have come to.

    Attributes:
        surprise: ``-log p`` of each token that was scored.
        reference_surprise: The same by the reference.
        divergence: The Kullback-Leibler divergence of the model's distribution from the
            reference's, in nats, of each.
        agreed: How many of them have the same likeliest token in both.
    """

    surprise: Mean = field(default_factory=Mean)
    reference_surprise: Mean = field(default_factory=Mean)
    divergence: Mean = field(default_factory=Mean)
    agreed: int = 0

    def read(self, window: Sequence[int], runner: Runner, reference: Runner | None = None) -> None:
        """Scores the second half of a window, each token given all before it.

        Args:
            window: Token ids.
            runner: The model; what its first slot held is forgotten.
            reference: A model with the same tokens.

        Raises:
            UsageError: The reference has more or fewer tokens.
        """
        expected = window[len(window) // 2 + 1 :]
        rows = _rows(runner, window)
        if reference is None:
            found = [log_softmax(row)[token] for row, token in zip(rows, expected, strict=True)]
            self.surprise.add(-np.array(found))
            return
        others = _rows(reference, window)
        for token, row, other in zip(expected, rows, others, strict=True):
            if row.size != other.size:
                raise UsageError(
                    f"the models have {row.size:,} and {other.size:,} tokens; expected as many"
                )
            self._compare(token, log_softmax(row), log_softmax(other))

    def _compare(
        self, token: int, found: NDArray[np.float64], reference: NDArray[np.float64]
    ) -> None:
        self.surprise.add(-found[token : token + 1])
        self.reference_surprise.add(-reference[token : token + 1])
        possible = reference > -np.inf  # what has no probability has no part in the mean
        differences = reference[possible] - found[possible]
        self.divergence.add(np.array([(np.exp(reference[possible]) * differences).sum()]))
        self.agreed += bool(found.argmax() == reference.argmax())


def perplexity(surprise: Mean) -> tuple[float, float]:
    """The perplexity a token, and its standard error (to first order)."""
    value = math.exp(surprise.value)
    return value, value * surprise.error


def _rows(runner: Runner, window: Sequence[int]) -> Iterator[NDArray[np.float32]]:
    """The logits that the tokens after the middle of a window are expected by, ``[vocab]`` each."""
    middle = len(window) // 2
    for start in range(0, len(window) - 1, PREFILL_CHUNK):
        part = window[start : min(start + PREFILL_CHUNK, len(window) - 1)]
        wanted = range(max(0, middle - start), len(part))
        (logits,) = runner.forward([Row(0, part, start, wanted or None)])
        yield from logits if wanted else ()
