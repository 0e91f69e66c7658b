"""gpt-oss, whose experts are in MXFP4."""

from __future__ import annotations

from pipelines.plugin import PipelineRecord, decoder, hookimpl


@hookimpl
def register_pipelines() -> list[PipelineRecord]:
    """The pipeline `gptoss`."""
    return [
        decoder(
            "gptoss",
            "gpt-oss from GGUF files.",
            architectures=("gpt-oss",),
            network=f"{__name__}.model:build",
        )
    ]
