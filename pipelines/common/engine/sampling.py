"""Chooses the next token from logits."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from numbers import Integral, Real

import numpy as np
from numpy.typing import NDArray

from pipelines.common.elementary import exp
from pipelines.common.errors import ModelFileError, ParameterError

RANDOM_SEED = -1
"""What users may write for a seed that is drawn; vLLM has it so."""

_LARGEST = float(np.finfo(np.float32).max)
_LEAST = float(np.finfo(np.float32).tiny)
_LEAST_TEMPERATURE = 1e-30
"""What float32 can still divide by; no two logits are so close that it makes a difference."""
_BLOCK = 512


@dataclass(frozen=True)
class SamplingParams:
    """How tokens are chosen; the defaults are greedy and change nothing.

    Attributes:
        temperature: Divides the logits; 0 takes the most likely token.
        top_k: Keeps the k most likely tokens and those as likely as the last of them; 0 keeps all,
            as does -1, which is vLLM's word for it.
        top_p: Keeps the fewest most likely tokens that together reach this probability, and those
            as likely as the last of them.
        min_p: Keeps tokens at least this fraction as likely as the most likely one.
        repetition_penalty: Divides the positive and multiplies the negative logits of all tokens
            in the prompt and the output so far.
        seed: Of the random numbers.

    Raises:
        ParameterError: A value is no number, or out of its range.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        ranges: dict[str, tuple[Callable[[float], bool], str]] = {
            "temperature": (lambda value: value >= 0, "0 or more"),
            "top_p": (lambda value: 0 < value <= 1, "above 0 and at most 1"),
            "min_p": (lambda value: 0 <= value <= 1, "from 0 to 1"),
            "repetition_penalty": (lambda value: value > 0, "above 0"),
        }
        for name, (valid, expected) in ranges.items():
            value = getattr(self, name)
            if not (_is(value, Real) and valid(value) and abs(value) < math.inf):
                raise ParameterError(name, value, f"a number {expected}")
        for name, least, also in (("top_k", -1, ", or -1 for all"), ("seed", 0, "")):
            value = getattr(self, name)
            if not (_is(value, Integral) and least <= value < 1 << 63):
                raise ParameterError(name, value, f"an integer from 0 to 2^63 - 1{also}")


def _is(value: object, kind: type) -> bool:
    """Whether something is a number of a kind; in Python, though nowhere else, true is 1."""
    return isinstance(value, kind) and not isinstance(value, bool)


class Sampler:
    """Samples tokens of one sequence.

    Logits pass through repetition penalty, temperature, top-k, top-p and min-p in this order, as in
    Hugging Face's `generate`; equal seeds and logits give equal tokens.
    """

    def __init__(self, params: SamplingParams) -> None:
        self._params = params
        # Of the standard library, whose numbers for a seed are guaranteed to stay the same.
        self._random = random.Random(params.seed)
        self._seen: set[int] = set()
        # In float32, as the logits; what it cannot hold is as good as its ends.
        self._temperature = np.float32(min(max(params.temperature, _LEAST_TEMPERATURE), _LARGEST))
        self._penalty = np.float32(min(max(params.repetition_penalty, _LEAST), _LARGEST))

    def observe(self, tokens: Iterable[int]) -> None:
        """Notes tokens of the prompt or the output, for the repetition penalty."""
        self._seen.update(tokens)

    def sample(self, logits: NDArray[np.float32]) -> int:
        """Chooses a token.

        Args:
            logits: One a token of the vocabulary, shape ``[vocab]``; left as they are.

        Raises:
            ModelFileError: A logit is NaN, or the largest is infinite.
        """
        best = int(np.argmax(logits))  # which finds a NaN wherever there is one
        if not math.isfinite(logits[best]):
            raise ModelFileError(
                f"the model computes a logit of {logits[best]}; its weights are damaged"
            )
        penalized = self._penalized(logits)
        if self._params.temperature == 0:
            return best if penalized is logits else int(np.argmax(penalized))
        tokens, probabilities = self._distribution(penalized)
        return int(tokens[_draw(probabilities, self._random.random())])

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
        return int(tokens[by_id[self.sample(logits[by_id])]])

    @property
    def _choices(self) -> int:
        """How many of the most likely tokens there are to choose from; 0 if that is not known."""
        if self._params.repetition_penalty != 1:
            return 0
        return 1 if self._params.temperature == 0 else self._params.top_k

    def _penalized(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        penalty = self._penalty
        if penalty == 1 or not self._seen:
            return logits
        seen = np.fromiter(self._seen, np.int64, len(self._seen))
        values = logits[seen]
        logits = logits.copy()
        with np.errstate(over="ignore"):  # of the one that is not taken, or cut to a number
            changed = np.where(values < 0, values * penalty, values / penalty)
        logits[seen] = np.clip(changed, -_LARGEST, _LARGEST)
        return logits

    def _distribution(
        self, logits: NDArray[np.float32]
    ) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        """The tokens that stay, in order of their ids, and their unnormalized probabilities."""
        params = self._params
        tokens = np.arange(logits.size)
        if 0 < params.top_k < logits.size:
            tokens = np.flatnonzero(logits >= np.partition(logits, -params.top_k)[-params.top_k])
            logits = logits[tokens]
        # In float32, which takes a tenth of float64's time; whatever is summed is in float64.
        with np.errstate(over="ignore"):  # to minus infinity, which has no probability
            probabilities = exp((logits - logits.max()) / self._temperature)
        least = params.min_p  # the largest is exp(0) = 1
        if params.top_p < 1:
            least = max(least, _nucleus(probabilities, params.top_p))
        if least > 0:
            stay = np.flatnonzero(probabilities >= least)
            tokens, probabilities = tokens[stay], probabilities[stay]
        return tokens, probabilities


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


def _nucleus(probabilities: NDArray[np.float32], top_p: float) -> float:
    """The least probability in the nucleus: the most likely tokens that together reach `top_p`.

    See Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration". Tokens that are as
    likely as the last of them belong to it too.

    Args:
        probabilities: Unnormalized, shape ``[n]``.
        top_p: Above 0 and below 1.
    """
    total = probabilities.sum(dtype=np.float64)
    tail = (1 - top_p) * total
    # Tokens below tail / n sum to less than the tail, so they are out, and need no sorting.
    candidate = probabilities >= tail / probabilities.size
    candidates = np.sort(probabilities[candidate])
    ascending = np.cumsum(candidates, dtype=np.float64)
    ascending += total - ascending[-1]
    out = np.searchsorted(ascending[:-1], tail, side="right")  # the most likely one always stays
    return float(candidates[out])
