"""Phi-3 and Phi-4."""

from __future__ import annotations

from pipelines.plugin import HuggingFaceModel, PipelineRecord, decoder, hookimpl


@hookimpl
def register_pipelines() -> list[PipelineRecord]:
    """The pipeline `phi3`."""
    return [
        decoder(
            "phi3",
            "Phi-3 and Phi-4.",
            architectures=("phi3",),
            network=f"{__name__}.model:build",
            translations=(HuggingFaceModel("phi3", "phi3"),),
        )
    ]
