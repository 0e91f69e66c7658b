"""What is added to the logits of some tokens, before any sampler."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.common.engine.sampling.sampler import Candidates, Sampler, Setup
from pipelines.common.errors import UsageError


class LogitBias(Sampler):
    """Adds to the logits of some tokens, and leaves others out.

    Args:
        biases: What is added, by token.
        banned: Tokens that cannot be chosen.
    """

    def __init__(self, biases: Mapping[int, float], banned: Collection[int]) -> None:
        self._tokens = np.array([*biases], np.intp)
        self._biases = np.array([*biases.values()], np.float64)
        self._banned = np.array([*banned], np.intp)

    def apply(self, candidates: Candidates, history: Sequence[int]) -> Candidates:
        """See `Sampler.apply`."""
        candidates = candidates.plus(self._tokens, self._biased)
        if not self._banned.size:
            return candidates
        return candidates.where(~np.isin(candidates.tokens, self._banned))

    def _biased(self, logits: NDArray[np.float32], places: NDArray[np.intp]) -> NDArray[Any]:
        return logits + self._biases[places]


def logit_bias(setup: Setup) -> Sampler | None:
    """Off where there is none, and the end tokens are not to be ignored.

    Raises:
        UsageError: The vocabulary has not so many tokens.
    """
    biases = dict(setup.params.logit_bias)
    size = setup.tokenizer.vocab_size
    if beyond := [token for token in biases if token >= size]:
        raise UsageError(
            f"`logit_bias` has token {beyond[0]}, and the model's tokens are 0 to {size - 1}"
        )
    banned = setup.tokenizer.end_ids if setup.params.ignore_eos else ()
    return LogitBias(biases, banned) if biases or banned else None
