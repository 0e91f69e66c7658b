"""XTC, "exclude top choices": now and then, the likeliest tokens but one are left out.

As its author describes it: https://github.com/oobabooga/text-generation-webui/pull/6335.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from pipelines.common.engine.sampling.sampler import Candidates, Sampler, Setup

_MOST = 0.5
"""Above which threshold there are no two tokens to choose from."""


class XTC(Sampler):
    """Of the tokens that are likely enough, leaves only the least likely, and those like it.

    Args:
        probability: How often.
        threshold: How likely is enough.
        numbers: What decides whether this time.
    """

    def __init__(self, probability: float, threshold: float, numbers: random.Random) -> None:
        self._probability = probability
        self._threshold = threshold
        self._random = numbers

    def apply(self, candidates: Candidates, history: Sequence[int]) -> Candidates:
        """See `Sampler.apply`."""
        if candidates.tokens.size < 2 or self._random.random() >= self._probability:
            return candidates
        probabilities = candidates.probabilities()
        least = self._threshold * probabilities.sum(dtype="float64")
        enough = probabilities[probabilities >= least]
        if enough.size < 2:
            return candidates
        return candidates.where(probabilities <= enough.min())


def xtc(setup: Setup) -> Sampler | None:
    """Off for a probability of 0, and a threshold that no two tokens can reach."""
    params = setup.params
    if params.xtc_probability == 0 or params.xtc_threshold > _MOST:
        return None
    return XTC(params.xtc_probability, params.xtc_threshold, setup.random)
