"""The record of Llama 2; light, so that listing and help stay fast."""

from __future__ import annotations

from pipelines.common.models.pipeline import DecoderPipeline


def load() -> DecoderPipeline:
    """Llama 2, whose folders of Meta's have no chat template: it is that of its paper."""
    return DecoderPipeline(
        name="llama2",
        architectures=("llama",),
        network="pipelines.llama3.model:build",
        chat_template="llama2",
    )
