"""Qwen 3 as a drop-in plugin: what it takes to bring another decoder.

This file is imported at every start of the driver; `model.py` only when a model is run.
"""

from __future__ import annotations

from pipelines.plugin import HuggingFaceModel, PipelineRecord, decoder, hookimpl


@hookimpl
def register_pipelines() -> list[PipelineRecord]:
    """The pipelines `qwen3` and `qwen3moe`, of one network."""
    network = f"{__name__}.model:build"
    defaults = {"head_dim": 128, "use_sliding_window": False}
    return [
        decoder(
            "qwen3",
            "Qwen 3 (dense).",
            architectures=("qwen3",),
            network=network,
            translations=(HuggingFaceModel("qwen3", "qwen3", defaults=defaults),),
        ),
        decoder(
            "qwen3moe",
            "Qwen 3 with experts.",
            architectures=("qwen3moe",),
            network=network,
            translations=(
                HuggingFaceModel(
                    "qwen3_moe", "qwen3moe", defaults={**defaults, "norm_topk_prob": False}
                ),
            ),
        ),
    ]
