"""Gemma 2 and 3 as a drop-in plugin."""

from __future__ import annotations

from pipelines.plugin import PipelineRecord, decoder, hookimpl


@hookimpl
def register_pipelines() -> list[PipelineRecord]:
    """The pipelines `gemma2` and `gemma3`."""
    return [
        decoder(
            name,
            f"Gemma {name[-1]} (text) from GGUF files.",
            architectures=(name,),
            network=f"{__name__}.model:build_{name}",
        )
        for name in ("gemma2", "gemma3")
    ]
