"""The network of Llama 3 (Grattafiori et al. 2024, arXiv:2407.21783)."""

from __future__ import annotations

from pipelines.common.decoder.config import DecoderConfig
from pipelines.common.nn import Block, Decoder


def build(config: DecoderConfig) -> Decoder:
    """Grouped-query attention, then SwiGLU, in each layer."""
    return Decoder(config, [Block(config) for _ in range(config.layers)])
