"""Chooses the tokens of one sequence: its samplers one after the other, and a draw."""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipelines.common.engine.sampling.logit_bias import logit_bias
from pipelines.common.engine.sampling.order import Stage
from pipelines.common.engine.sampling.params import SamplingParams
from pipelines.common.engine.sampling.sampler import Candidates, Sampler, Setup
from pipelines.common.errors import ModelFileError, PluginError, UsageError

if TYPE_CHECKING:
    from pipelines.common.text.tokenizer import Tokenizer

_BLOCK = 512


class Chain:
    """The samplers of one sequence, in their order.

    What is added to logits comes first. Equal seeds and logits give equal tokens, whatever is
    computed beside them.

    Args:
        params: The settings.
        tokenizer: The model's.

    Raises:
        UsageError: A setting does not fit to the tokenizer.
    """

    def __init__(self, params: SamplingParams, tokenizer: Tokenizer) -> None:
        self._greedy = params.temperature == 0
        # Of the standard library, whose numbers for a seed are guaranteed to stay the same.
        self._random = random.Random(params.seed)
        self._history: list[int] = []
        self._samplers: list[tuple[str, Sampler]] = []
        for stage in (Stage("logit_bias", logit_bias), *params.samplers):
            setup = Setup(params, dict(stage.settings), tokenizer, self._random)
            if (sampler := stage.make(setup)) is not None:
                self._samplers.append((stage.name, sampler))
        # The likeliest of what such a one leaves is the likeliest of what it is given.
        while self._greedy and self._samplers and self._samplers[-1][1].keeps_best:
            self._samplers.pop()

    def observe(self, tokens: Iterable[int]) -> None:
        """Notes tokens of the prompt or the output."""
        self._history.extend(tokens)

    def sample(self, logits: NDArray[np.float32]) -> int:
        """Chooses a token.

        Args:
            logits: One a token of the vocabulary, shape ``[vocab]``; left as they are.

        Raises:
            ModelFileError: A logit is NaN, or the largest is infinite.
            UsageError: All tokens are ruled out.
            PluginError: A plugin's sampler gives what is no number.
        """
        if self._greedy and not self._samplers:
            return _likeliest(logits)
        return self._choose(Candidates(_every(logits.size), logits))

    def left(self, candidates: Candidates) -> Candidates:
        """What the samplers leave, which one is drawn from; see `sample`.

        Raises:
            UsageError: A sampler leaves none.
            PluginError: A plugin's sampler gives what is no number.
        """
        left = candidates
        for name, sampler in self._samplers:
            left = sampler.apply(left, self._history)
            if not left.tokens.size or (most := left.logits.max()) == -math.inf:
                raise UsageError(f"sampler {name} leaves no token to choose; let it leave some")
            if not math.isfinite(most):
                raise PluginError(f"sampler {name} makes the largest logit {most}")
        return left

    def _choose(self, candidates: Candidates) -> int:
        _likeliest(candidates.logits)
        left = self.left(candidates)
        if self._greedy:
            return int(left.tokens[np.argmax(left.logits)])
        return int(left.tokens[_draw(left.probabilities(), self._random.random())])

    def takes(self, candidates: int) -> bool:
        """Whether so many of the most likely tokens are enough to choose from, but for ties."""
        return 0 < self._choices < candidates

    def decided_by(self, logits: NDArray[np.float32]) -> bool:
        """Whether no token beyond the candidates could be chosen.

        Args:
            logits: Those of candidates that it `takes`, descending, ``[candidates]``.
        """
        # Tokens that are as likely as the last one to choose from can be chosen as well.
        return bool(logits[self._choices - 1] > logits[-1])

    def sample_candidates(self, tokens: NDArray[np.int64], logits: NDArray[np.float32]) -> int:
        """Chooses the token that `sample` would choose from all logits.

        Args:
            tokens: Ids of candidates that it is `decided_by`, ``[candidates]``.
            logits: Their logits, like `tokens`.

        Raises:
            ModelFileError: The largest logit is infinite.
        """
        by_id = np.argsort(tokens)
        return self._choose(Candidates(tokens[by_id], logits[by_id]))

    @property
    def _choices(self) -> int:
        """How many of the most likely tokens there are to choose from; 0 if that is not known."""
        if self._greedy and not self._samplers:
            return 1
        for _, sampler in self._samplers:
            if not sampler.from_best:
                return 0
            if sampler.most:
                return sampler.most
        return 0


@functools.lru_cache(maxsize=2)
def _every(size: int) -> NDArray[np.intp]:
    """The ids of all tokens, which is always the same array."""
    ids = np.arange(size)
    ids.flags.writeable = False
    return ids


def _likeliest(logits: NDArray[np.float32]) -> int:
    """The place of the largest logit; of equal ones, the first.

    Raises:
        ModelFileError: A logit is NaN, or the largest is infinite.
    """
    best = int(np.argmax(logits))  # which finds a NaN wherever there is one
    if not math.isfinite(most := logits[best]):
        raise ModelFileError(f"the model computes a logit of {most}; its weights are damaged")
    return best


def _draw(probabilities: NDArray[np.float32], uniform: float) -> int:
    """The index that a uniform number in ``[0, 1)`` falls on.

    Args:
        probabilities: Unnormalized, shape ``[n]``.
        uniform: The number.
    """
    # Running sums are slow, so they go over blocks first, and then over the one that was hit.
    starts = np.arange(0, probabilities.size, _BLOCK)
    sums = np.cumsum(np.add.reduceat(probabilities, starts, dtype=np.float64))
    drawn = uniform * sums[-1]
    block = int(np.searchsorted(sums, drawn, side="right"))
    start = block * _BLOCK
    inner = np.cumsum(probabilities[start : start + _BLOCK], dtype=np.float64)
    drawn -= sums[block - 1] if block else 0.0
    # Rounding may put the number beyond the last of the block's sums.
    return start + min(int(np.searchsorted(inner, drawn, side="right")), inner.size - 1)
