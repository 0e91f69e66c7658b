"""How rotary frequencies are stretched for a longer context, as a file's metadata says it.

The keys are those of https://github.com/ggml-org/ggml/blob/master/docs/gguf.md and of llama.cpp,
and they are combined as there: a factor without a type is a linear one, whichever key it stands in,
and the type ``none`` overrules it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias, cast, get_args

import numpy as np
from numpy.typing import NDArray

from pipelines.common.checkpoints.checkpoint import Checkpoint
from pipelines.common.errors import ModelFileError, quoted

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

    @classmethod
    def from_file(cls, file: Checkpoint, architecture: str, context_length: int) -> RopeScaling:
        """Reads what a file says.

        Args:
            file: The file.
            architecture: Prefix of the keys.
            context_length: The original context where the file names no other.

        Raises:
            ModelFileError: The scaling is of an unknown kind, or a number makes no sense.
        """
        metadata, scaling = file.metadata, f"{architecture}.rope.scaling"
        kind = metadata.string(f"{scaling}.type", "linear")
        if kind not in get_args(Kind):
            raise ModelFileError(
                f"{file.path}: RoPE scaling {quoted(kind)} is not supported; expected"
                f" {', '.join(get_args(Kind))}"
            )
        older = metadata.number(f"{architecture}.rope.scale_linear", 0.0)
        factor = metadata.number(f"{scaling}.factor", older) or 1.0  # 0 says nothing
        if not 1e-38 < factor < 1e38:
            raise ModelFileError(
                f"{file.path}: RoPE scaling factor {factor}; expected a positive number"
            )
        magnitude = metadata.number(f"{scaling}.attn_factor", 1.0)
        original, low, high = context_length, 1.0, 4.0
        if kind == "llama3":
            original = metadata.integer(f"{scaling}.original_context_length", 8192)
            low = metadata.number(f"{scaling}.low_freq_factor", low)
            high = metadata.number(f"{scaling}.high_freq_factor", high)
        if kind == "yarn":
            original = metadata.integer(f"{scaling}.original_context_length", original)
            low = metadata.number(f"{scaling}.yarn_beta_slow", 1.0)
            high = metadata.number(f"{scaling}.yarn_beta_fast", 32.0)
            magnitude *= _yarn_magnitude(file, scaling, factor)
        if not 0 < low < high or original < 1:
            raise ModelFileError(
                f"{file.path}: RoPE scaling from {low} to {high} turns in a context of {original};"
                " expected 0 < low < high and a positive context"
            )
        if not 0 < magnitude < 1e18:
            raise ModelFileError(
                f"{file.path}: RoPE scaling multiplies queries and keys by {magnitude}; expected a"
                " positive number"
            )
        return cls(cast(Kind, kind), factor, original, low, high, magnitude)

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
