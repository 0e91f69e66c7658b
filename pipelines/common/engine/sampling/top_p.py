"""Top-p, the nucleus.

Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration".
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipelines.common.engine.sampling.quantile import reached
from pipelines.common.engine.sampling.sampler import Candidates, Sampler, Setup


class TopP(Sampler):
    """Keeps the fewest tokens that together reach a probability, and those as likely as the last.

    Args:
        p: Above 0 and below 1.
    """

    keeps_best = True

    def __init__(self, p: float) -> None:
        self._p = p

    def apply(self, candidates: Candidates, history: Sequence[int]) -> Candidates:
        """See `Sampler.apply`."""
        probabilities = candidates.probabilities()
        tail = (1 - self._p) * probabilities.sum(dtype=np.float64)
        return candidates.where(probabilities >= reached(probabilities, probabilities, tail))


def top_p(setup: Setup) -> Sampler | None:
    """Off for 1."""
    return TopP(setup.params.top_p) if setup.params.top_p < 1 else None
