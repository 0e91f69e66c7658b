"""What a rotary embedding is. Light: plugins have it in their numbers, at every start."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipelines.common.rotary.scaling import RopeScaling

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

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
            if not all(0 < frequency < _LARGEST for frequency in found.tolist()):
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
        from pipelines.common.rotary.angles import frequencies

        return frequencies(self, positions)

    def tables(self, positions: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Cosines and sines of the angles, times the scaling's magnitude.

        Returns:
            Each ``[positions, dims / 2]``.

        Raises:
            ModelFileError: A frequency makes angles so large that float32 cannot tell them apart.
        """
        from pipelines.common.rotary.angles import tables

        return tables(self, positions)
