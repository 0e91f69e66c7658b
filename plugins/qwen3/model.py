"""The network of Qwen 3 (Yang et al. 2025, arXiv:2505.09388).

It is Llama's but for two things in the attention: queries and keys are normalized head by head
before their rotation, and the rotation pairs the two halves of a head, not neighbouring elements.
"""

from __future__ import annotations

from torch import Tensor

from pipelines.common.decoder.config import DecoderConfig
from pipelines.common.nn import Attention, Block, Decoder, RMSNorm, SwiGLU


class QKNormAttention(Attention):
    """Attention that normalizes each head of queries and keys."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__(
            config.hidden_size,
            config.heads,
            config.kv_heads,
            config.head_dim,
            scale=config.attention_scale,
            interleaved=config.interleaved,
            biases=config.biases_of("attention"),
        )
        self.query_norm = RMSNorm(config.head_dim, config.norm_epsilon)
        self.key_norm = RMSNorm(config.head_dim, config.norm_epsilon)

    def prepare(self, query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
        """Normalizes ``[batch, sequence, heads * head_dim]`` over each head."""
        by_head = (-1, self.head_dim)
        return (
            self.query_norm(query.unflatten(-1, by_head)).flatten(-2),
            self.key_norm(key.unflatten(-1, by_head)).flatten(-2),
        )


def build(config: DecoderConfig) -> Decoder:
    """The network with empty weights."""
    blocks = [
        Block(
            config.hidden_size,
            config.norm_epsilon,
            attention=QKNormAttention(config),
            feed_forward=SwiGLU(
                config.hidden_size,
                config.intermediate_size,
                biases=config.biases_of("feed_forward"),
            ),
        )
        for _ in range(config.layers)
    ]
    return Decoder(config.vocabulary, config.hidden_size, config.norm_epsilon, blocks)
