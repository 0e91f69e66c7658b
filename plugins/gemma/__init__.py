"""Gemma 2 and 3 as a drop-in plugin."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pipelines.plugin import HuggingFaceModel, PipelineRecord, decoder, hookimpl

GLOBAL = "full_attention"


@hookimpl
def register_pipelines() -> list[PipelineRecord]:
    """The pipelines `gemma2` and `gemma3`."""
    return [
        decoder(
            name,
            f"Gemma {name[-1]} (text).",
            architectures=(name,),
            network=f"{__name__}.model:build_{name}",
            translations=translations,
        )
        for name, translations in (("gemma2", (GEMMA2,)), ("gemma3", (GEMMA3, GEMMA3_TEXT_OF_ALL)))
    ]


def gemma2_numbers(config: dict[str, Any]) -> dict[str, Any]:
    """What Gemma 2 says in a way of its own: scores scaled by a width, layers in turns."""
    return {
        **_scale(config),
        "attention.sliding_window": _window(config, 2),
    }


def gemma3_numbers(config: dict[str, Any]) -> dict[str, Any]:
    """What Gemma 3 says besides: every so many layers see everything, rotated by another base."""
    stated = config.pop("_sliding_window_pattern", 6)
    period = config.pop("sliding_window_pattern", stated)
    if "layer_types" in config:  # which counts
        period = [*config["layer_types"], GLOBAL].index(GLOBAL) + 1
    ropes = config.get("rope_parameters") or {}
    local = config.pop("rope_local_base_freq", 10000.0)
    if "full_attention" in ropes:
        beside = {**ropes["sliding_attention"]}
        local = beside.pop("rope_theta", local)
        if beside.pop("rope_type", "default") != "default" or beside:
            raise ValueError("rope_parameters scale the rotations of local layers; expected none")
        config["rope_parameters"] = ropes["full_attention"]
    return {
        **_scale(config),
        "attention.sliding_window": _window(config, period),
        "attention.sliding_window_pattern": period,
        "rope.freq_base_swa": local,
    }


def _scale(config: dict[str, Any]) -> dict[str, Any]:
    return {"attention.scale": config.pop("query_pre_attn_scalar") ** -0.5}


def _window(config: dict[str, Any], period: int) -> int:
    """The window of local layers, of which all are but each last of a period."""
    kinds = ["sliding_attention", GLOBAL]
    expected = [kinds[(n + 1) % period == 0] for n in range(config["num_hidden_layers"])]
    if config.pop("layer_types", expected) != expected:
        raise ValueError(f"layer_types is not what it is in models of this family: {expected}")
    window: int = config.pop("sliding_window")
    return window


_BOTH: dict[str, Any] = {
    "head_dim": 256,
    "hidden_activation": "gelu_pytorch_tanh",
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "query_pre_attn_scalar": 256,
    "sliding_window": 4096,
    "tie_word_embeddings": True,
}
_ACTIVATION: dict[str, tuple[Any, ...]] = {
    "hidden_act": ("gelu_pytorch_tanh", "gelu"),  # of the two, the other one counts
    "hidden_activation": ("gelu_pytorch_tanh",),
}

GEMMA2 = HuggingFaceModel(
    "gemma2",
    "gemma2",
    expected=_ACTIVATION,
    defaults={**_BOTH, "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0},
    numbers=gemma2_numbers,
    norm_offset=1.0,
)
GEMMA3 = HuggingFaceModel(
    "gemma3_text",
    "gemma3",
    expected=_ACTIVATION,
    defaults={**_BOTH, "max_position_embeddings": 131072, "rms_norm_eps": 1e-6, "rope_theta": 1e6},
    numbers=gemma3_numbers,
    norm_offset=1.0,
)
GEMMA3_TEXT_OF_ALL = replace(
    GEMMA3,
    model_type="gemma3",
    part="text_config",
    prefix="language_model.",
    ignored=("vision_tower.", "multi_modal_projector."),
)
