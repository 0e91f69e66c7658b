"""Qwen 3 as a drop-in plugin: what it takes to bring another decoder.

This file is imported at every start of the driver; `model.py` only when a model is run.
"""

from __future__ import annotations

from pipelines.plugin import PipelineRecord, decoder, hookimpl


@hookimpl
def register_pipelines() -> list[PipelineRecord]:
    """The pipelines `qwen3` and `qwen3moe`, of one network."""
    network = f"{__name__}.model:build"
    return [
        decoder(
            "qwen3",
            "Qwen 3 (dense) from GGUF files.",
            architectures=("qwen3",),
            network=network,
        ),
        decoder(
            "qwen3moe",
            "Qwen 3 with experts from GGUF files.",
            architectures=("qwen3moe",),
            network=network,
        ),
    ]
