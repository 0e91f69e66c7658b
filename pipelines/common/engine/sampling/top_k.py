"""Top-k: the k most likely tokens (Fan et al. 2018, "Hierarchical Neural Story Generation")."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipelines.common.engine.sampling.sampler import Candidates, Sampler, Setup


class TopK(Sampler):
    """Keeps the k most likely tokens, and those as likely as the last of them."""

    keeps_best = True
    from_best = True

    def __init__(self, k: int) -> None:
        self.most = k

    def apply(self, candidates: Candidates, history: Sequence[int]) -> Candidates:
        """See `Sampler.apply`."""
        logits = candidates.logits
        if logits.size <= self.most:
            return candidates
        return candidates.where(logits >= np.partition(logits, -self.most)[-self.most])


def top_k(setup: Setup) -> Sampler | None:
    """Off for 0 and -1."""
    return TopK(setup.params.top_k) if setup.params.top_k > 0 else None
