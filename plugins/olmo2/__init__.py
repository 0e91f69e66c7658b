"""OLMo 2."""

from __future__ import annotations

from pipelines.plugin import HuggingFaceModel, PipelineRecord, decoder, hookimpl


@hookimpl
def register_pipelines() -> list[PipelineRecord]:
    """The pipeline `olmo2`."""
    return [
        decoder(
            "olmo2",
            "OLMo 2.",
            architectures=("olmo2",),
            network=f"{__name__}.model:build",
            translations=(HuggingFaceModel("olmo2", "olmo2"),),
        )
    ]
