"""Rotary positions as a checkpoint says them, in metadata and in tensors.

The keys are those of https://github.com/ggml-org/ggml/blob/master/docs/gguf.md and of llama.cpp,
and they are combined as there: a factor without a type is a linear one, whichever key it stands in,
and the type ``none`` overrules it.
"""

from __future__ import annotations

import math
from typing import Final, cast, get_args

import numpy as np

from pipelines.common.checkpoints.checkpoint import Checkpoint
from pipelines.common.encodings import F32
from pipelines.common.errors import ModelFileError, quoted
from pipelines.common.rotary.rope import Rope
from pipelines.common.rotary.scaling import Kind, RopeScaling

FACTORS: Final = "rope_freqs.weight"
"""Tensor by which Llama 3.1 and later say that frequencies are scaled: one divisor each."""

SHORT: Final = "rope_factors_short.weight"
LONG: Final = "rope_factors_long.weight"
"""Tensors of LongRoPE's divisors, for sequences within the original context and for longer ones."""

TENSORS: Final = (FACTORS, SHORT, LONG)


def read_rope(file: Checkpoint, architecture: str, dims: int, context_length: int) -> Rope:
    """Reads what a file says.

    Args:
        file: The file.
        architecture: Prefix of the keys.
        dims: Elements of a head that are rotated.
        context_length: The original context where the file names no other.

    Raises:
        ModelFileError: The scaling is of an unknown kind, a number makes no sense, or a tensor does
            not fit.
    """
    rope = Rope(
        dims=dims,
        base=file.metadata.number(f"{architecture}.rope.freq_base", 10000.0),
        scaling=_scaling(file, architecture, context_length),
        factors=_factors(file, dims // 2, FACTORS) or _factors(file, dims // 2, SHORT),
        long_factors=_factors(file, dims // 2, LONG),
    )
    for problem in rope.problems():
        tensors = ", ".join(name for name in TENSORS if name in file.tensors)
        divided = f"; frequencies are divided by {tensors}" if tensors else ""
        raise ModelFileError(f"{file.path}: {problem}{divided}")
    return rope


def _factors(file: Checkpoint, pairs: int, tensor: str) -> tuple[float, ...]:
    """The divisors in a tensor; none if there is no such."""
    info = file.tensors.get(tensor)
    if info is None:
        return ()
    if info.shape != (pairs,) or info.encoding != F32:
        raise ModelFileError(
            f"{file.path}: tensor '{tensor}' is {info.encoding} {list(info.shape)};"
            f" expected f32 [{pairs}]"
        )
    return tuple(map(float, file.raw(tensor).view(np.float32).reshape(pairs)))


def _scaling(file: Checkpoint, architecture: str, context_length: int) -> RopeScaling:
    metadata, scaling = file.metadata, f"{architecture}.rope.scaling"
    kind = metadata.string(f"{scaling}.type", "linear")
    older = metadata.number(f"{architecture}.rope.scale_linear", 0.0)
    factor = metadata.number(f"{scaling}.factor", older) or 1.0  # 0 says nothing
    if kind == "longrope" and factor == 1:
        kind = "none"  # its factors are tensors
    if kind not in get_args(Kind):
        raise ModelFileError(
            f"{file.path}: RoPE scaling {quoted(kind)} is not supported; expected"
            f" {', '.join(get_args(Kind))}, or longrope without a factor"
        )
    magnitude = metadata.number(f"{scaling}.attn_factor", 1.0)
    key, low, high = f"{scaling}.original_context_length", 1.0, 4.0
    original = metadata.integer(key, 8192 if kind == "llama3" else context_length)
    if kind == "llama3":
        low = metadata.number(f"{scaling}.low_freq_factor", low)
        high = metadata.number(f"{scaling}.high_freq_factor", high)
    if kind == "yarn":
        low = metadata.number(f"{scaling}.yarn_beta_slow", 1.0)
        high = metadata.number(f"{scaling}.yarn_beta_fast", 32.0)
        magnitude *= _yarn_magnitude(file, scaling, factor)
    return RopeScaling(cast(Kind, kind), factor, original, low, high, magnitude)


def _yarn_magnitude(file: Checkpoint, scaling: str, factor: float) -> float:
    """What YaRN multiplies queries and keys by, to keep the entropy of attention.

    Raises:
        ModelFileError: It is said in a way that is not supported.
    """
    metadata = file.metadata
    mix = metadata.number(f"{scaling}.yarn_ext_factor", -1.0)
    logarithm = metadata.number(f"{scaling}.yarn_log_multiplier", 0.0)
    if not (mix < 0 or mix == 1) or logarithm:
        raise ModelFileError(
            f"{file.path}: YaRN with '{scaling}.yarn_ext_factor' {mix} and"
            f" '{scaling}.yarn_log_multiplier' {logarithm} is not supported; expected 1 and 0, or"
            " neither key"
        )
    inferred = 0.1 * math.log(max(factor, 1.0)) + 1.0
    return metadata.number(f"{scaling}.yarn_attn_factor", inferred)
