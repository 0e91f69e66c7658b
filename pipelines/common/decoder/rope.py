"""Rotary frequencies and the tables of angles that are fed to a graph.

Computed in float32 throughout, as the models were trained, and with the same bits on every machine.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from pipelines.common.decoder.config import DecoderConfig
from pipelines.common.elementary import LARGEST_ANGLE, cos_sin, power
from pipelines.common.errors import ModelFileError
from pipelines.common.weights.model_file import ModelFile
from pipelines.common.weights.parallel import for_row_chunks

FACTORS = "rope_freqs.weight"
"""Tensor by which a file says that its frequencies are scaled: one divisor a frequency."""


def frequencies(config: DecoderConfig, file: ModelFile, architecture: str) -> NDArray[np.float32]:
    """The angle a position, for each pair of a head's elements, scaled as the file says.

    Llama 3.1 and later stretch their context by dividing the low frequencies; a GGUF carries the
    divisors as a tensor. Metadata may name a linear or a `llama3` scaling instead.

    Returns:
        ``[head_dim / 2]``.

    Raises:
        ModelFileError: The scaling is of an unknown kind or the tensor does not fit.
    """
    metadata = file.metadata
    pairs = config.head_dim // 2
    exponent = np.arange(0, config.head_dim, 2, dtype=np.float32) / np.float32(config.head_dim)
    plain = np.float32(1) / power(float(np.float32(config.rope_base)), exponent)

    if FACTORS in file.tensors:
        info = file.tensors[FACTORS]
        if info.shape != (pairs,) or info.encoding.name != "f32":
            raise ModelFileError(
                f"{file.path}: tensor '{FACTORS}' is {info.encoding.name} {list(info.shape)};"
                f" expected f32 [{pairs}]"
            )
        factors = file.raw(FACTORS).view(np.float32).reshape(pairs)
        with np.errstate(all="ignore"):
            scaled = plain / factors
        if not np.all(np.isfinite(scaled) & (scaled > 0)):
            raise ModelFileError(
                f"{file.path}: tensor '{FACTORS}' has divisors that give no positive frequencies"
            )
        return scaled

    kind = metadata.string(f"{architecture}.rope.scaling.type", "none")
    if kind == "none":
        return plain
    factor = metadata.number(f"{architecture}.rope.scaling.factor")
    if not 1 <= factor < 1e38:
        raise ModelFileError(
            f"{file.path}: RoPE scaling factor {factor}; expected a number from 1 to 1e38"
        )
    if kind == "linear":
        return plain / np.float32(factor)
    if kind == "llama3":
        low = metadata.number(f"{architecture}.rope.scaling.low_freq_factor", 1.0)
        high = metadata.number(f"{architecture}.rope.scaling.high_freq_factor", 4.0)
        original = metadata.integer(f"{architecture}.rope.scaling.original_context_length", 8192)
        if not 0 < low < high or original < 1:
            raise ModelFileError(
                f"{file.path}: RoPE scaling from {low} to {high} times a context of {original};"
                " expected 0 < low < high and a positive context"
            )
        return plain / llama3_factors(plain, factor=factor, low=low, high=high, original=original)
    raise ModelFileError(
        f"{file.path}: RoPE scaling '{kind}' is not supported; expected none, linear or llama3"
    )


def llama3_factors(
    plain: NDArray[np.float32], *, factor: float, low: float, high: float, original: int
) -> NDArray[np.float32]:
    """Divisors of Llama 3.1's scaling.

    Short wavelengths stay, long ones are divided by `factor`, those between by a blend.

    Source: `apply_scaling` in https://github.com/meta-llama/llama-models (models/llama3/model.py).

    Args:
        plain: Unscaled frequencies, ``[head_dim / 2]``.
        factor: Divisor of the lowest frequencies.
        low: Wavelengths above ``original / low`` are divided by `factor`.
        high: Wavelengths below ``original / high`` are kept.
        original: Context length before scaling, in tokens.
    """
    wavelength = 2 * math.pi / plain
    blend = np.clip((original / wavelength - low) / (high - low), 0.0, 1.0)
    return (1.0 / ((1.0 - blend) / factor + blend)).astype(np.float32)


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
