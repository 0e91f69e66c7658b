"""Qwen 1.5 and 2 with experts: Qwen 2, whose feed-forward networks a router chooses."""

from __future__ import annotations

from pipelines.plugin import HuggingFaceModel, PipelineRecord, decoder, hookimpl


@hookimpl
def register_pipelines() -> list[PipelineRecord]:
    """The pipeline `qwen2moe`."""
    return [
        decoder(
            "qwen2moe",
            "Qwen 1.5 and 2 with experts.",
            architectures=("qwen2moe",),
            network=f"{__name__}.model:build",
            translations=(
                HuggingFaceModel("qwen2_moe", "qwen2moe", defaults={"use_sliding_window": False}),
            ),
        )
    ]
