"""Temperature: below 1 likely tokens become likelier, above 1 all become more alike."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from pipelines.common.engine.sampling.sampler import LARGEST, Candidates, Sampler, Setup

_LEAST = 1e-30
"""What float32 can still divide by; no two logits are so close that it makes a difference."""


class Temperature(Sampler):
    """Divides the logits."""

    keeps_best = True
    from_best = True

    def __init__(self, temperature: float) -> None:
        # In float32, as the logits; what it cannot hold is as good as its ends.
        self._temperature = np.float32(min(max(temperature, _LEAST), LARGEST))

    def apply(self, candidates: Candidates, history: Sequence[int]) -> Candidates:
        """See `Sampler.apply`."""
        logits = candidates.logits
        with np.errstate(over="ignore"):
            if math.isinf((most := logits.max()) / self._temperature):
                logits = logits - most  # differences are all that counts then
            return candidates.with_logits(logits / self._temperature)


def temperature(setup: Setup) -> Sampler | None:
    """Off for 1; for 0 too, when the most likely token is taken at the end in any case."""
    value = setup.params.temperature
    return None if value in (0, 1) else Temperature(value)
