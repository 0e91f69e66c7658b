"""The network of Llama 3 (Grattafiori et al. 2024, arXiv:2407.21783)."""

from __future__ import annotations

from pipelines.common.decoder.config import DecoderConfig
from pipelines.common.nn import Attention, Block, Decoder, SwiGLU


def build(config: DecoderConfig) -> Decoder:
    """The network with empty weights."""
    return Decoder(
        config.vocabulary,
        config.hidden_size,
        config.norm_epsilon,
        [block(config) for _ in range(config.layers)],
    )


def block(config: DecoderConfig) -> Block:
    """One layer: grouped-query attention, then SwiGLU."""
    return Block(
        config.hidden_size,
        config.norm_epsilon,
        attention=Attention(
            config.hidden_size,
            config.heads,
            config.kv_heads,
            config.head_dim,
            scale=config.attention_scale,
            interleaved=config.interleaved,
            biases=config.biases_of("attention"),
        ),
        feed_forward=SwiGLU(
            config.hidden_size,
            config.intermediate_size,
            biases=config.biases_of("feed_forward"),
        ),
    )
