"""The network of Qwen 3 (arXiv:2505.09388): Llama's, with normalized queries and keys."""

from __future__ import annotations

from pipelines.plugin import MixtureConfig, nn


def build(config: MixtureConfig) -> nn.Decoder:
    """Llama's layers with that attention, and with experts where the model has them."""
    blocks = [
        nn.Block(config, nn.HeadNormAttention(config), nn.feed_forward(config))
        for _ in range(config.layers)
    ]
    return nn.Decoder(config, blocks)
