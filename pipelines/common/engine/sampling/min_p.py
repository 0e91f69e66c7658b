"""Min-p: tokens that are likely enough, measured by the likeliest.

Nguyen et al. 2024, "Turning Up the Heat: Min-p Sampling for Creative and Coherent LLM Outputs".
"""

from __future__ import annotations

from collections.abc import Sequence

from pipelines.common.engine.sampling.sampler import Candidates, Sampler, Setup


class MinP(Sampler):
    """Keeps tokens at least a fraction as likely as the most likely one."""

    keeps_best = True
    from_best = True

    def __init__(self, fraction: float) -> None:
        self._fraction = fraction

    def apply(self, candidates: Candidates, history: Sequence[int]) -> Candidates:
        """See `Sampler.apply`."""
        return candidates.where(candidates.probabilities() >= self._fraction)


def min_p(setup: Setup) -> Sampler | None:
    """Off for 0."""
    return MinP(setup.params.min_p) if setup.params.min_p > 0 else None
