"""Log-probabilities: how likely the model itself finds tokens, before any sampler."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipelines.common.elementary import exp

LEAST: Final = -9999.0
"""In the place of what is less, minus infinity too, which JSON cannot write; OpenAI has it so."""


@dataclass(frozen=True)
class TokenLogprobs:
    """What the model's distribution says where a token was chosen.

    Attributes:
        token: The id of the token that was chosen.
        logprob: The natural logarithm of its probability, `LEAST` or more.
        top: The likeliest tokens, the likeliest first, with theirs.
    """

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


def token_logprobs(logits: NDArray[np.float32], token: int, top: int) -> TokenLogprobs:
    """How likely a token is, and which are the likeliest.

    Args:
        logits: As the model computes them, ``[vocab]``; the largest is finite.
        token: The token that was chosen.
        top: How many of the likeliest are told, or all if there are fewer; of tokens that are
            equally likely those with the lower ids.
    """
    total = log_total(logits)

    def logprob(id: int) -> float:
        return max(float(logits[id]) - total, LEAST)

    ids = _likeliest(logits, top) if top else []
    return TokenLogprobs(token, logprob(token), tuple((id, logprob(id)) for id in ids))


def log_total(logits: NDArray[np.float32]) -> float:
    """The logarithm of the sum of the exponentials of logits, ``[vocab]``; to some 1e-7.

    A logit less this is the logarithm of its probability.
    """
    largest = logits.max()
    return float(largest) + math.log(exp(logits - largest).sum(dtype=np.float64))


def log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """The logarithms of all probabilities, to float64, ``[vocab]``."""
    values = logits.astype(np.float64)
    values -= values.max()
    return values - math.log(np.exp(values).sum())


def _likeliest(logits: NDArray[np.float32], count: int) -> list[int]:
    count = min(count, logits.size)
    ids = np.flatnonzero(logits >= np.partition(logits, -count)[-count])
    ranked = ids[np.argsort(-logits[ids], kind="stable")][:count]
    return [int(id) for id in ranked]
