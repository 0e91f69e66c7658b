"""Top-n-sigma: tokens whose logits stand out.

Tang et al. 2024, "Top-n sigma: Not All Logits Are You Need".
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipelines.common.engine.sampling.sampler import Candidates, Sampler, Setup


class TopNSigma(Sampler):
    """Keeps tokens whose logit is within n standard deviations, of all logits, of the largest."""

    keeps_best = True

    def __init__(self, n: float) -> None:
        self._n = n

    def apply(self, candidates: Candidates, history: Sequence[int]) -> Candidates:
        """See `Sampler.apply`."""
        logits = candidates.logits
        numbers = logits[np.isfinite(logits)].astype(np.float64)
        deviation = np.sqrt(np.square(numbers - numbers.mean()).mean())
        return candidates.where(logits >= logits.max() - self._n * deviation)


def top_n_sigma(setup: Setup) -> Sampler | None:
    """Off for 0 and -1."""
    return TopNSigma(setup.params.top_n_sigma) if setup.params.top_n_sigma > 0 else None
