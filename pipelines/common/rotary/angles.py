"""The frequencies of a rotary embedding, and the tables of angles that are fed to a graph.

Computed in float32 throughout, as the models were trained, and with the same bits on every machine.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from pipelines.common.elementary import LARGEST_ANGLE, cos_sin, power
from pipelines.common.errors import ModelFileError
from pipelines.common.parallel import for_row_chunks
from pipelines.common.rotary.rope import Rope
from pipelines.common.rotary.scaling import RopeScaling


def frequencies(rope: Rope, positions: int) -> NDArray[np.float32]:
    """See `Rope.frequencies`."""
    exponent = np.arange(0, rope.dims, 2, dtype=np.float32) / np.float32(rope.dims)
    plain = np.float32(1) / power(float(np.float32(rope.base)), exponent)
    divided_by = divisors(rope.scaling, plain, rope.base)
    is_long = rope.long_factors and positions > rope.scaling.original
    if factors := rope.long_factors if is_long else rope.factors:
        # Those of Llama 3.1 are what `llama3` says as well; anything else comes on top.
        own = np.array(factors, np.float32)
        divided_by = own if rope.scaling.kind == "llama3" else own * divided_by
    with np.errstate(all="ignore"):
        return (plain / divided_by).astype(np.float32)


def tables(rope: Rope, positions: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """See `Rope.tables`."""
    frequency = frequencies(rope, positions)
    fastest, last = float(frequency.max()), positions - 1
    if fastest * last > LARGEST_ANGLE:
        raise ModelFileError(
            f"the model's RoPE turns by {fastest:.3g} radians a position; expected at most"
            f" {LARGEST_ANGLE / last:.3g} for {positions} positions"
        )
    angle = np.arange(positions, dtype=np.float32)[:, None] * frequency
    cos, sin = np.empty_like(angle), np.empty_like(angle)
    magnitude = np.float32(rope.scaling.magnitude)

    def work(chunk: slice) -> None:
        cos[chunk], sin[chunk] = cos_sin(angle[chunk])
        if magnitude != 1:
            cos[chunk] *= magnitude
            sin[chunk] *= magnitude

    for_row_chunks(positions, frequency.size, work)
    return cos, sin


def divisors(
    scaling: RopeScaling, plain: NDArray[np.float32], base: float
) -> NDArray[np.float32] | float:
    """What frequencies are divided by.

    Args:
        scaling: How they are scaled.
        plain: Unscaled frequencies, ``[dims / 2]``.
        base: Their base (theta).
    """
    if scaling.kind == "linear":
        return scaling.factor
    if scaling.kind == "none":
        return 1.0
    if scaling.kind == "yarn":
        kept = _kept_by_yarn(scaling, len(plain), base)
    else:
        kept = _kept_by_llama3(scaling, plain)
    return (1.0 / ((1.0 - kept) / scaling.factor + kept)).astype(np.float32)


def _kept_by_llama3(scaling: RopeScaling, plain: NDArray[np.float32]) -> NDArray[np.floating]:
    """How much of each frequency is kept: a blend by its turns in the original context.

    Source: `apply_scaling` in https://github.com/meta-llama/llama-models
    (models/llama3/model.py).
    """
    wavelength = 2 * math.pi / plain
    return np.clip(
        (scaling.original / wavelength - scaling.low) / (scaling.high - scaling.low), 0.0, 1.0
    )


def _kept_by_yarn(scaling: RopeScaling, pairs: int, base: float) -> NDArray[np.floating]:
    """How much of each frequency is kept: a blend by its place among the others.

    Source: section 3.2 of Peng et al. 2023, arXiv:2309.00071; places are rounded as in
    https://github.com/jquesnelle/yarn.
    """

    def place(turns: float) -> float:
        """Of the frequency that turns that often in the original context."""
        return pairs * math.log(scaling.original / (2 * math.pi * turns)) / math.log(base)

    first, last = place(scaling.high), place(scaling.low)
    if scaling.rounded:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, 2 * pairs - 1)
    return 1.0 - np.clip((np.arange(pairs) - first) / max(last - first, 0.001), 0.0, 1.0)
