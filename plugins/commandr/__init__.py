"""Command-R, without the norms of queries and keys that Command-R+ has."""

from __future__ import annotations

from pipelines.plugin import PipelineRecord, decoder, hookimpl


@hookimpl
def register_pipelines() -> list[PipelineRecord]:
    """The pipeline `commandr`."""
    return [
        decoder(
            "commandr",
            "Command-R from GGUF files.",
            architectures=("command-r",),
            network=f"{__name__}.model:build",
        )
    ]
