"""The record of Llama 3; light, so that listing and help stay fast."""

from __future__ import annotations

from pathlib import Path

from pipelines.common.models.pipeline import DecoderPipeline

BUNDLED = Path(__file__).parent / "bundled" / "tiny-llama3-stories-f16.gguf"


def load() -> DecoderPipeline:
    """Llama 3, 3.1 and 3.2 from GGUF files."""
    return DecoderPipeline(
        name="llama3",
        architectures=("llama",),
        network="pipelines.llama3.model:build",
        bundled=BUNDLED,
    )
