"""Qwen 3 as a drop-in plugin: what it takes to bring another decoder.

This file is imported at every start of the driver, so everything heavy is imported in `load`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.common.registry.hookspecs import PipelineRecord, hookimpl

if TYPE_CHECKING:
    from pipelines.common.models.pipeline import DecoderPipeline


@hookimpl
def register_pipelines() -> list[PipelineRecord]:
    """The pipeline `qwen3`."""
    return [PipelineRecord("qwen3", "Qwen 3 (dense) from GGUF files.", load, ("qwen3",))]


def load() -> DecoderPipeline:
    """What checkpoints call the architecture, and its network."""
    from pipelines.common.models.pipeline import DecoderPipeline

    return DecoderPipeline("qwen3", ("qwen3",), network=f"{__name__}.model:build")
