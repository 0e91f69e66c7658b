"""A plugin whose network uses parameters in standard operators; see `model.py`."""

from __future__ import annotations

from pipelines.plugin import PipelineRecord, decoder, hookimpl


@hookimpl
def register_pipelines() -> list[PipelineRecord]:
    return [
        decoder(
            "shifted",
            "Llama with shifted norms.",
            architectures=("shifted",),
            network=f"{__name__}.model:build",
        )
    ]
