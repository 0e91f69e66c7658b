"""The network of Llama 3 (Grattafiori et al. 2024, arXiv:2407.21783), and of Mixtral.

Mixtral (Jiang et al. 2024, arXiv:2401.04088) has experts in the place of SwiGLU, and in files the
name of Llama's architecture.
"""

from __future__ import annotations

from pipelines.common.decoder.mixture import MixtureConfig
from pipelines.common.nn import Block, Decoder, feed_forward


def build(config: MixtureConfig) -> Decoder:
    """Grouped-query attention, then SwiGLU or experts, in each layer."""
    return Decoder(
        config, [Block(config, feed_forward=feed_forward(config)) for _ in range(config.layers)]
    )
