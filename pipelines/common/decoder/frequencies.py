"""Rotary frequencies, as a checkpoint says.

Computed in float32 throughout, as the models were trained, and with the same bits on every machine.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipelines.common.checkpoints.checkpoint import Checkpoint
from pipelines.common.decoder.config import DecoderConfig
from pipelines.common.decoder.rope_scaling import RopeScaling
from pipelines.common.elementary import power
from pipelines.common.encodings import F32
from pipelines.common.errors import ModelFileError

FACTORS = "rope_freqs.weight"
"""Tensor by which a file says that its frequencies are scaled: one divisor a frequency."""


def frequencies(config: DecoderConfig, file: Checkpoint, architecture: str) -> NDArray[np.float32]:
    """The angle a position, for each pair of a head's elements, scaled as the file says.

    Llama 3.1 and later stretch their context by dividing the low frequencies; a checkpoint carries
    the divisors as a tensor. Metadata may name a scaling instead, or one more.

    Returns:
        ``[head_dim / 2]``.

    Raises:
        ModelFileError: The scaling is of an unknown kind or the tensor does not fit.
    """
    exponent = np.arange(0, config.head_dim, 2, dtype=np.float32) / np.float32(config.head_dim)
    plain = np.float32(1) / power(float(np.float32(config.rope_base)), exponent)
    return _scaled(plain, config, file, architecture)


def _scaled(
    plain: NDArray[np.float32], config: DecoderConfig, file: Checkpoint, architecture: str
) -> NDArray[np.float32]:
    """Frequencies ``[head_dim / 2]`` scaled as a file says, see `frequencies`."""
    scaling = RopeScaling.from_file(file, architecture, config.context_length)
    divisors = scaling.divisors(plain, config.rope_base)
    if FACTORS in file.tensors:
        # They are what `llama3` says in metadata; anything else comes on top.
        own = _divisors(file, len(plain))
        divisors = own if scaling.kind == "llama3" else own * divisors
    with np.errstate(all="ignore"):
        result = (plain / divisors).astype(np.float32)
    if not np.all(np.isfinite(result) & (result > 0)):
        raise ModelFileError(
            f"{file.path}: its RoPE scaling ({scaling.kind}, factor {scaling.factor},"
            f" {'with' if FACTORS in file.tensors else 'without'} a tensor '{FACTORS}') gives"
            " frequencies that are not positive"
        )
    return result


def _divisors(file: Checkpoint, pairs: int) -> NDArray[np.float32]:
    """The tensor `FACTORS`."""
    info = file.tensors[FACTORS]
    if info.shape != (pairs,) or info.encoding != F32:
        raise ModelFileError(
            f"{file.path}: tensor '{FACTORS}' is {info.encoding} {list(info.shape)};"
            f" expected f32 [{pairs}]"
        )
    return file.raw(FACTORS).view(np.float32).reshape(pairs)
