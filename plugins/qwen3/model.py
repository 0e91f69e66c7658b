"""The network of Qwen 3 (arXiv:2505.09388): Llama's, with normalized queries and keys."""

from __future__ import annotations

from pipelines.plugin import DecoderConfig, nn


def build(config: DecoderConfig) -> nn.Decoder:
    """Llama's layers with that attention."""
    blocks = [nn.Block(config, nn.HeadNormAttention(config)) for _ in range(config.layers)]
    return nn.Decoder(config, blocks)
