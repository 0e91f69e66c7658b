"""How rotary frequencies are stretched for a longer context."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

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
        rounded: Whether YaRN's blend begins and ends at whole places among the frequencies; files
            do not say it.
    """

    kind: Kind = "none"
    factor: float = 1.0
    original: int = 1
    low: float = 1.0
    high: float = 4.0
    magnitude: float = 1.0
    rounded: bool = True

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
