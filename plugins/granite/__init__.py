"""Granite 3 (dense)."""

from __future__ import annotations

from pipelines.plugin import PipelineRecord, decoder, hookimpl


@hookimpl
def register_pipelines() -> list[PipelineRecord]:
    """The pipeline `granite`."""
    return [
        decoder(
            "granite",
            "Granite 3 (dense) from GGUF files.",
            architectures=("granite",),
            network=f"{__name__}.model:build",
        )
    ]
