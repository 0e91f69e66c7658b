"""The tables of rotary angles that are fed to a graph.

Computed in float32 throughout, as the models were trained, and with the same bits on every machine.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipelines.common.elementary import LARGEST_ANGLE, cos_sin
from pipelines.common.errors import ModelFileError
from pipelines.common.parallel import for_row_chunks


def tables(
    frequency: NDArray[np.float32], positions: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Cosines and sines of the angles, each ``[positions, head_dim / 2]``.

    Raises:
        ModelFileError: A frequency makes angles so large that float32 cannot tell them apart.
    """
    fastest, last = float(frequency.max()), positions - 1
    if fastest * last > LARGEST_ANGLE:
        raise ModelFileError(
            f"the model's RoPE turns by {fastest:.3g} radians a position; expected at most"
            f" {LARGEST_ANGLE / last:.3g} for {positions} positions"
        )
    angle = np.arange(positions, dtype=np.float32)[:, None] * frequency
    cos, sin = np.empty_like(angle), np.empty_like(angle)

    def work(chunk: slice) -> None:
        cos[chunk], sin[chunk] = cos_sin(angle[chunk])

    for_row_chunks(positions, frequency.size, work)
    return cos, sin
