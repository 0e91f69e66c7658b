"""The network of Qwen 3 (arXiv:2505.09388): Llama's, with normalized queries and keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.plugin import DecoderConfig, MixtureConfig, nn

if TYPE_CHECKING:
    from torch import Tensor


class QKNormAttention(nn.Attention):
    """Attention that normalizes each head of queries and keys."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__(config)
        self.query_norm = nn.RMSNorm(config.head_dim, config.norm_epsilon, "attn_q_norm")
        self.key_norm = nn.RMSNorm(config.head_dim, config.norm_epsilon, "attn_k_norm")

    def prepare(self, query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
        """Normalizes ``[batch, sequence, heads * head_dim]`` over each head."""
        by_head = (-1, self.head_dim)
        return (
            self.query_norm(query.unflatten(-1, by_head)).flatten(-2),
            self.key_norm(key.unflatten(-1, by_head)).flatten(-2),
        )


def build(config: MixtureConfig) -> nn.Decoder:
    """Llama's layers with that attention, and with experts where the model has them."""
    blocks = [
        nn.Block(config, QKNormAttention(config), nn.feed_forward(config))
        for _ in range(config.layers)
    ]
    return nn.Decoder(config, blocks)
