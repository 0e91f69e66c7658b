"""What a sampler is, and what it is given."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pipelines.common.elementary import exp

if TYPE_CHECKING:
    from pipelines.common.engine.sampling.params import SamplingParams
    from pipelines.common.text.tokenizer import Tokenizer

LARGEST = float(np.finfo(np.float32).max)
"""Of what a logit can be."""


@dataclass(frozen=True, eq=False)
class Candidates:
    """The tokens that can still be chosen; neither array may be written to.

    Attributes:
        tokens: Their ids, ascending, shape ``[n]``.
        logits: Of each, shape ``[n]``; minus infinity for one that cannot be chosen after all.
    """

    tokens: NDArray[np.intp]
    logits: NDArray[np.float32]

    def where(self, stay: NDArray[np.bool_]) -> Candidates:
        """Those for which `stay`, ``[n]``, holds."""
        places = np.flatnonzero(stay)
        return Candidates(self.tokens[places], self.logits[places])

    def with_logits(self, logits: NDArray[np.float32]) -> Candidates:
        """The same tokens with other logits, ``[n]``."""
        return Candidates(self.tokens, logits)

    def plus(self, tokens: NDArray[np.intp], change: Change) -> Candidates:
        """With other logits for some tokens, as far as they are among these.

        Args:
            tokens: Ids, each once.
            change: Given the logits of those that are here, and their places in `tokens`, the
                logits that they get, cut to what float32 can hold.
        """
        last = self.tokens.size - 1
        whole = self.tokens[-1] == last  # then each id is its own place
        places = np.minimum(tokens if whole else np.searchsorted(self.tokens, tokens), last)
        here = np.flatnonzero(self.tokens[places] == tokens)
        if not here.size:
            return self
        logits = self.logits.copy()
        with np.errstate(over="ignore"):
            changed = change(logits[places[here]], here)
        logits[places[here]] = np.clip(changed, -LARGEST, LARGEST)
        return self.with_logits(logits)

    def probabilities(self) -> NDArray[np.float32]:
        """How likely each is, times as much as the likeliest, ``[n]``.

        They are in float32, which takes a tenth of float64's time; whatever is summed should be in
        float64. They are the same on every machine.
        """
        with np.errstate(over="ignore"):  # to minus infinity, which has no probability
            return exp(self.logits - self.logits.max())


Change: TypeAlias = Callable[[NDArray[np.float32], NDArray[np.intp]], NDArray[Any]]


@dataclass(frozen=True)
class Setup:
    """What a sampler of one sequence is made from.

    Attributes:
        params: All settings of the sequence.
        settings: Those that its record declares, as they were given in parentheses or are by
            default.
        tokenizer: The model's.
        random: Random numbers of the sequence, the same for the same seed.
    """

    params: SamplingParams
    settings: Mapping[str, float]
    tokenizer: Tokenizer
    random: random.Random


class Sampler(ABC):
    """A step on the way from the logits to a token, for one sequence.

    The attributes say what may be relied on, so that work can be spared; what they are by default
    is right for every sampler.

    Attributes:
        keeps_best: Whether the likeliest token stays, and stays the likeliest. Then it has no part
            in a greedy choice.
        from_best: Whether what becomes of a token depends only on itself and on likelier ones, and
            their order stays. Then it can do with the likeliest tokens alone, which is all that
            some devices give.
        most: How many of the likeliest tokens it leaves, and those as likely as the last of them;
            0 if that is not known.
    """

    keeps_best: bool = False
    from_best: bool = False
    most: int = 0

    @abstractmethod
    def apply(self, candidates: Candidates, history: Sequence[int]) -> Candidates:
        """What is left of the candidates, or what their logits are now.

        Args:
            candidates: At least one.
            history: The tokens of the prompt and the output so far; the next time it has the same
                ones and more.
        """


Make: TypeAlias = Callable[[Setup], Sampler | None]
"""Makes the sampler of a sequence; None where its settings change nothing."""
