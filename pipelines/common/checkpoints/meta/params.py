"""``params.json`` as GGUF's metadata.

Source: https://github.com/meta-llama/llama-models (models/llama3/args.py and model.py), and for
what is said by no file the versions that `transformers` tells apart (convert_llama_weights_to_hf).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from pipelines.common.errors import ModelFileError

ARCHITECTURE: Final = "llama"

_KEYS: Final[Mapping[str, str]] = {
    "dim": "embedding_length",
    "n_layers": "block_count",
    "n_heads": "attention.head_count",
    "n_kv_heads": "attention.head_count_kv",
    "norm_eps": "attention.layer_norm_rms_epsilon",
    "rope_theta": "rope.freq_base",
}
_REQUIRED: Final = ("dim", "n_layers", "n_heads", "norm_eps")

_OF_TENSORS: Final = ("ffn_dim_multiplier", "multiple_of", "vocab_size")
"""What tensors say, and everything is checked against."""

_HARMLESS: Final = ("max_batch_size",)

_CONTEXTS: Final = ((1e6, 16384), (5e5, 8192), (0, 4096))
"""Tokens that models were made for, by the smallest rotary base: Code Llama, Llama 3, Llama 2."""

_ORIGINAL, _SCALED = 8192, 131072
"""Those of Llama 3, and of what came of it by scaling frequencies."""

_FACTOR, _FACTOR_IF_TIED = 8.0, 32.0
"""What low frequencies are divided by in Llama 3.1, and in 3.2, whose output matrix is its
embedding."""


def architecture_numbers(
    params: Mapping[str, Any], inner: int, tied: Callable[[], bool], path: Path
) -> dict[str, Any]:
    """What the file says, in the vocabulary of GGUF without the architecture.

    Args:
        params: What it says.
        inner: Width inside of the feed-forward network, which tensors say.
        tied: Whether the output matrix is the embedding.
        path: The file, for messages.

    Raises:
        ModelFileError: A number is missing, or one is there that is not known.
    """
    left = {key: value for key, value in params.items() if value is not None}
    for key in _REQUIRED:
        if key not in left:
            raise ModelFileError(f"{path}: {key} is missing, expected a number")
    for key, value in left.items():
        known = key in _KEYS or key in _OF_TENSORS
        if known and (type(value) not in (int, float) or not math.isfinite(value)):
            raise ModelFileError(f"{path}: {key} is {json.dumps(value)}, expected a number")
    found: dict[str, Any] = {name: left.pop(key) for key, name in _KEYS.items() if key in left}
    found["feed_forward_length"] = inner
    base = found.setdefault("rope.freq_base", 10000.0)
    context = next(tokens for least, tokens in _CONTEXTS if base >= least)
    if left.pop("use_scaled_rope", False):
        context = _SCALED
        factor = left.pop("rope_scaling_factor", None) or (_FACTOR_IF_TIED if tied() else _FACTOR)
        found["rope.scaling.type"] = "llama3"
        found["rope.scaling.factor"] = factor
        found["rope.scaling.low_freq_factor"] = 1.0
        found["rope.scaling.high_freq_factor"] = left.pop("rope_high_freq_factor", 4.0)
        found["rope.scaling.original_context_length"] = _ORIGINAL
    found["context_length"] = left.pop("max_seq_len", context)
    for key in (*_OF_TENSORS, *_HARMLESS):
        left.pop(key, None)
    if left:
        raise ModelFileError(
            f"{path}: has {', '.join(left)}, which may change results and cannot be applied;"
            " expected the parameters of a Llama without experts or images"
        )
    return found
