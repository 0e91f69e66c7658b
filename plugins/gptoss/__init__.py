"""gpt-oss, whose experts are in MXFP4."""

from __future__ import annotations

from typing import Any

from pipelines.plugin import HuggingFaceModel, PipelineRecord, decoder, hookimpl

YARN = {
    "rope_type": "yarn",
    "factor": 32.0,
    "original_max_position_embeddings": 4096,
    "truncate": False,
}


@hookimpl
def register_pipelines() -> list[PipelineRecord]:
    """The pipeline `gptoss`."""
    return [
        decoder(
            "gptoss",
            "gpt-oss.",
            architectures=("gpt-oss",),
            network=f"{__name__}.model:build",
            translations=(
                HuggingFaceModel(
                    "gpt_oss",
                    "gpt-oss",
                    expected={
                        "hidden_act": ("silu",),  # between the factor and the bounds that follow
                        "swiglu_alpha": (1.702,),
                        "swiglu_limit": (7.0,),
                    },
                    defaults={
                        "head_dim": 64,
                        "num_experts_per_tok": 4,
                        "num_key_value_heads": 8,
                        "num_local_experts": 128,
                        "rms_norm_eps": 1e-5,
                        "rope_theta": 150000.0,
                        "sliding_window": 128,
                        "tie_word_embeddings": False,
                    },
                    numbers=numbers,
                    stacked_experts=True,
                ),
            ),
        )
    ]


def numbers(config: dict[str, Any]) -> dict[str, Any]:
    """What gpt-oss says in a way of its own: layers in turns, and YaRN that is not rounded."""
    stated = config.pop("layer_types", None)
    if stated is not None:
        kinds = ["full_attention" if n % 2 else "sliding_attention" for n in range(len(stated))]
        if stated != kinds or len(kinds) != config["num_hidden_layers"]:
            raise ValueError("layer_types is not local and global in turns, one for each layer")
    if not config.get("rope_parameters") and not config.get("rope_scaling"):
        config["rope_parameters"] = YARN
    for key in ("rope_parameters", "rope_scaling"):
        rope = config.get(key)
        if rope and rope.get("rope_type") == "yarn":
            config[key] = {each: value for each, value in rope.items() if each != "truncate"}
            if rope.get("truncate", True):
                raise ValueError(f"{key} of the type yarn do not say that truncate is false")
    used = config["num_experts_per_tok"]
    if (stated := config.pop("experts_per_token", used)) != used:
        raise ValueError(f"experts_per_token is {stated}, and num_experts_per_tok {used}")
    config.pop("initial_context_length", None)  # again what YaRN says
    return {
        "attention.sliding_window": config.pop("sliding_window"),
        "expert_feed_forward_length": config["intermediate_size"],
    }
