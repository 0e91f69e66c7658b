"""Locally typical tokens: those as surprising as a token is expected to be.

Meister et al. 2022, "Locally Typical Sampling".
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipelines.common.engine.sampling.quantile import reached
from pipelines.common.engine.sampling.sampler import LARGEST, Candidates, Sampler, Setup


class Typical(Sampler):
    """Keeps the most typical tokens that together exceed a probability, and those as typical.

    A token of probability p is the more typical the nearer ``-log p`` is to the entropy.
    """

    def __init__(self, p: float) -> None:
        self._p = p

    def apply(self, candidates: Candidates, history: Sequence[int]) -> Candidates:
        """See `Sampler.apply`."""
        possible = candidates.where(candidates.logits > -np.inf)
        probabilities = possible.probabilities()
        total = probabilities.sum(dtype=np.float64)
        # With the largest logit as 0, -log p is log Z - logit, and the entropy is log Z less the
        # mean of the logits. So their distance needs no logarithm.
        with np.errstate(over="ignore"):
            logits = np.maximum(possible.logits - possible.logits.max(), -LARGEST)
        mean = (probabilities * logits).sum(dtype=np.float64) / total
        distances = np.abs(logits - np.float32(mean))
        return possible.where(distances <= reached(distances, probabilities, self._p * total))


def typ_p(setup: Setup) -> Sampler | None:
    """Off for 1."""
    return Typical(setup.params.typical_p) if setup.params.typical_p < 1 else None
