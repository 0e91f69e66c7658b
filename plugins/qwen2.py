"""Qwen 2 and 2.5: Llama's network, with biases where the file has them."""

from __future__ import annotations

from pipelines.plugin import HuggingFaceModel, PipelineRecord, decoder, hookimpl


@hookimpl
def register_pipelines() -> list[PipelineRecord]:
    """The pipeline `qwen2`."""
    return [
        decoder(
            "qwen2",
            "Qwen 2 and 2.5 (dense).",
            architectures=("qwen2",),
            network="pipelines.llama3.model:build",
            translations=(
                HuggingFaceModel("qwen2", "qwen2", defaults={"use_sliding_window": False}),
            ),
        )
    ]
