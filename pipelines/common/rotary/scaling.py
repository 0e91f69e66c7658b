"""How rotary frequencies are stretched for a longer context."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Kind: TypeAlias = Literal["none", "linear", "yarn", "llama3"]


@dataclass(frozen=True)
class RopeScaling:
    """A stretching of the context.

    Attributes:
        kind: Which frequencies are divided by `factor`: all (``linear``), or the low ones, with a
            blend towards the high ones.
        factor: By how much the context is stretched.
        original: Tokens of the context before that.
        low: What turns less often than that in the original context is divided by `factor`.
        high: What turns more often is kept.
        magnitude: What rotated queries and keys are multiplied by.
    """

    kind: Kind = "none"
    factor: float = 1.0
    original: int = 1
    low: float = 1.0
    high: float = 4.0
    magnitude: float = 1.0

    def problems(self) -> Iterator[str]:
        """What no scaling can have."""
        if not 1e-38 < self.factor < 1e38:
            yield f"the RoPE scaling factor is {self.factor}; expected a positive number"
        if not 0 < self.low < self.high or self.original < 1:
            yield (
                f"RoPE scaling goes from {self.low} to {self.high} turns in a context of"
                f" {self.original}; expected 0 < low < high and a positive context"
            )
        if not 0 < self.magnitude < 1e18:
            yield (
                f"RoPE scaling multiplies queries and keys by {self.magnitude}; expected a"
                " positive number"
            )

    def divisors(self, plain: NDArray[np.float32], base: float) -> NDArray[np.float32] | float:
        """What frequencies are divided by.

        Args:
            plain: Unscaled frequencies, ``[head_dim / 2]``.
            base: Their base (theta).
        """
        if self.kind == "linear":
            return self.factor
        if self.kind == "none":
            return 1.0
        if self.kind == "yarn":
            kept = self._kept_by_yarn(len(plain), base)
        else:
            kept = self._kept_by_llama3(plain)
        return (1.0 / ((1.0 - kept) / self.factor + kept)).astype(np.float32)

    def _kept_by_llama3(self, plain: NDArray[np.float32]) -> NDArray[np.floating]:
        """How much of each frequency is kept: a blend by its turns in the original context.

        Source: `apply_scaling` in https://github.com/meta-llama/llama-models
        (models/llama3/model.py).
        """
        wavelength = 2 * math.pi / plain
        return np.clip((self.original / wavelength - self.low) / (self.high - self.low), 0.0, 1.0)

    def _kept_by_yarn(self, pairs: int, base: float) -> NDArray[np.floating]:
        """How much of each frequency is kept: a blend by its place among the others.

        Source: section 3.2 of Peng et al. 2023, arXiv:2309.00071; places are rounded as in
        https://github.com/jquesnelle/yarn.
        """

        def place(turns: float) -> float:
            """Of the frequency that turns that often in the original context."""
            return pairs * math.log(self.original / (2 * math.pi * turns)) / math.log(base)

        first = max(math.floor(place(self.high)), 0)
        last = min(math.ceil(place(self.low)), 2 * pairs - 1)
        return 1.0 - np.clip((np.arange(pairs) - first) / max(last - first, 0.001), 0.0, 1.0)
