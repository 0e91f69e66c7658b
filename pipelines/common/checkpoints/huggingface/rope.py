"""Rotary embeddings as configs say them, in GGUF's keys.

Source: https://github.com/huggingface/transformers (modeling_rope_utils.py).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from pipelines.common.checkpoints.huggingface.model import Settings

Factors = dict[str, tuple[float, ...]]

_SCALING: Final[Mapping[str, str]] = {
    "factor": "rope.scaling.factor",
    "low_freq_factor": "rope.scaling.low_freq_factor",
    "high_freq_factor": "rope.scaling.high_freq_factor",
    "original_max_position_embeddings": "rope.scaling.original_context_length",
    "beta_fast": "rope.scaling.yarn_beta_fast",
    "beta_slow": "rope.scaling.yarn_beta_slow",
    "attention_factor": "rope.scaling.yarn_attn_factor",
}
_OF_KIND: Final[Mapping[str, tuple[str, ...]]] = {
    "default": (),
    "linear": ("factor",),
    "llama3": (
        "factor",
        "low_freq_factor",
        "high_freq_factor",
        "original_max_position_embeddings",
    ),
    "yarn": (
        "factor",
        "original_max_position_embeddings",
        "beta_fast",
        "beta_slow",
        "attention_factor",
    ),
}
"""Which numbers count, by the type of the scaling."""

_NEUTRAL: Final[Mapping[str, tuple[Any, ...]]] = {
    "original_max_position_embeddings": (),
    "truncate": (True,),
    "mscale": (1, 1.0, 0),
    "mscale_all_dim": (0,),
}


def take_rope(config: Settings) -> Settings:
    """Takes the numbers of rotary embeddings out of a config, wherever they stand in it."""
    found: Settings = {}
    for key in ("rope_parameters", "rope_scaling"):
        found.update(config.pop(key, None) or {})
    for key in ("rope_theta", "partial_rotary_factor"):
        if key in config:
            found.setdefault(key, config.pop(key))
    return found


def rope_numbers(config: Settings) -> tuple[dict[str, Any], Factors]:
    """Takes out of a config what it says of rotary embeddings.

    Returns:
        Metadata without the architecture, and the tensors of LongRoPE's divisors.

    Raises:
        ValueError: It says something that is not known, and that changes results.
        KeyError: A number is missing.
    """
    said = take_rope(config)
    kind = said.pop("rope_type", None) or said.pop("type", None) or "default"
    said.pop("type", None)
    original = config.pop("original_max_position_embeddings", None)
    found: dict[str, Any] = {}
    if (base := said.pop("rope_theta", None)) is not None:
        found["rope.freq_base"] = _number("rope_theta", base)
    share = _number("partial_rotary_factor", said.pop("partial_rotary_factor", 1.0))
    if share != 1:
        width = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
        found["rope.dimension_count"] = int(width * share)
    if kind in ("longrope", "su"):
        original = said.pop("original_max_position_embeddings", original)
        return _longrope(said, found, config["max_position_embeddings"], original)
    if kind not in _OF_KIND:
        raise ValueError(f"rope_type is {kind!r}; expected {', '.join(_OF_KIND)} or longrope")
    if kind != "default":
        found["rope.scaling.type"] = kind
    for key in _OF_KIND[kind]:
        value = said.pop(key, original if key == "original_max_position_embeddings" else None)
        if value is not None:
            found[_SCALING[key]] = _number(key, value)
        elif key == "factor" or kind == "llama3":
            raise ValueError(f"rope_parameters of the type {kind} have no {key}")
    _refuse_unknown(said, kind)
    return found, {}


def _longrope(
    said: Settings, found: dict[str, Any], context: int, original: Any
) -> tuple[dict[str, Any], Factors]:
    """LongRoPE (arXiv:2402.13753): divisors for short sequences and for long ones."""
    original = int(_number("original_max_position_embeddings", original or context))
    stated = said.pop("factor", None)
    scale = context / original if original != context or stated is None else _number("", stated)
    factor = said.pop("attention_factor", None)
    if factor is None:
        factor = math.sqrt(1 + math.log(scale) / math.log(original)) if scale > 1 else 1.0
    found["rope.scaling.type"] = "longrope"
    found["rope.scaling.original_context_length"] = original
    found["rope.scaling.attn_factor"] = _number("attention_factor", factor)
    tensors = {
        f"rope_factors_{name}.weight": tuple(
            _number(f"{name}_factor", value) for value in said.pop(f"{name}_factor")
        )
        for name in ("short", "long")
    }
    _refuse_unknown(said, "longrope")
    return found, tensors


def _refuse_unknown(left: Settings, kind: str) -> None:
    """Raises for numbers that a scaling may depend on and that are not applied."""
    for key, value in left.items():
        if value is not None and key in _SCALING and key not in _OF_KIND.get(kind, ()):
            continue  # another type's, which this one does not look at
        if value is not None and value not in _NEUTRAL.get(key, ()):
            raise ValueError(
                f"rope_parameters of the type {kind} have {key} {value!r}, which is not applied"
            )


def _number(name: str, value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise ValueError(f"{name} is {value!r}, expected a number")
    number: float = value
    return number
