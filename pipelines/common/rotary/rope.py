"""What a rotary embedding turns heads by: frequencies, and the tables of angles fed to a graph.

Computed in float32 throughout, as the models were trained, and with the same bits on every machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.common.elementary import LARGEST_ANGLE, cos_sin, power
from pipelines.common.errors import ModelFileError
from pipelines.common.parallel import for_row_chunks
from pipelines.common.rotary.scaling import RopeScaling

UNSCALED = RopeScaling()

_LARGEST = 1e28
"""Of a frequency: times any position it is a float32."""


@dataclass(frozen=True)
class Rope:
    """A rotary embedding (Su et al. 2021, arXiv:2104.09864).

    Attributes:
        dims: Elements of a head that are rotated, from its first on; even.
        base: Of the frequencies (theta).
        scaling: How they are stretched for a longer context.
        factors: What a checkpoint divides each frequency by besides; none, or ``dims / 2``.
        long_factors: What it divides them by where sequences can grow longer than
            `RopeScaling.original` tokens (LongRoPE, Ding et al. 2024, arXiv:2402.13753); likewise.
    """

    dims: int
    base: float
    scaling: RopeScaling = UNSCALED
    factors: tuple[float, ...] = ()
    long_factors: tuple[float, ...] = ()

    def problems(self) -> Iterator[str]:
        """What no rotary embedding can have."""
        if self.dims < 2 or self.dims % 2:
            yield f"RoPE rotates {self.dims} elements of a head; expected a positive even number"
            return
        if not 1 < self.base < 1e38:
            yield f"the RoPE base is {self.base}; expected a number between 1 and 1e38"
            return
        wrong = [*self.scaling.problems()]
        yield from wrong
        for factors in (self.factors, self.long_factors):
            if factors and len(factors) != self.dims // 2:
                wrong.append("")
                yield f"there are {len(factors)} RoPE factors; expected {self.dims // 2}"
        if wrong:
            return
        for positions in (1, self.scaling.original + 1):
            found = self.frequencies(positions)
            if not np.all((found > 0) & (found < _LARGEST)):
                own = "with" if self.factors or self.long_factors else "without"
                yield (
                    f"RoPE scaling ({self.scaling.kind}, factor {self.scaling.factor}, {own}"
                    " factors of its own) gives frequencies that are not positive"
                )
                return

    def frequencies(self, positions: int) -> NDArray[np.float32]:
        """The angle a position, for each pair of elements, ``[dims / 2]``.

        Args:
            positions: How long sequences can grow.
        """
        exponent = np.arange(0, self.dims, 2, dtype=np.float32) / np.float32(self.dims)
        plain = np.float32(1) / power(float(np.float32(self.base)), exponent)
        divisors = self.scaling.divisors(plain, self.base)
        is_long = self.long_factors and positions > self.scaling.original
        if factors := self.long_factors if is_long else self.factors:
            # Those of Llama 3.1 are what `llama3` says as well; anything else comes on top.
            own = np.array(factors, np.float32)
            divisors = own if self.scaling.kind == "llama3" else own * divisors
        with np.errstate(all="ignore"):
            return (plain / divisors).astype(np.float32)

    def tables(self, positions: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Cosines and sines of the angles, times the scaling's magnitude.

        Returns:
            Each ``[positions, dims / 2]``.

        Raises:
            ModelFileError: A frequency makes angles so large that float32 cannot tell them apart.
        """
        frequency = self.frequencies(positions)
        fastest, last = float(frequency.max()), positions - 1
        if fastest * last > LARGEST_ANGLE:
            raise ModelFileError(
                f"the model's RoPE turns by {fastest:.3g} radians a position; expected at most"
                f" {LARGEST_ANGLE / last:.3g} for {positions} positions"
            )
        angle = np.arange(positions, dtype=np.float32)[:, None] * frequency
        cos, sin = np.empty_like(angle), np.empty_like(angle)
        magnitude = np.float32(self.scaling.magnitude)

        def work(chunk: slice) -> None:
            cos[chunk], sin[chunk] = cos_sin(angle[chunk])
            if magnitude != 1:
                cos[chunk] *= magnitude
                sin[chunk] *= magnitude

        for_row_chunks(positions, frequency.size, work)
        return cos, sin
