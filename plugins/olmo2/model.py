"""The network of OLMo 2 (arXiv:2501.00656): norms of what layers make, and of queries and keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.plugin import DecoderConfig, nn

if TYPE_CHECKING:
    from torch import Tensor


class QKNormAttention(nn.Attention):
    """Attention that normalizes queries and keys, each over all heads together."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__(config)
        self.query_norm = nn.RMSNorm(config.query_size, config.norm_epsilon, "attn_q_norm")
        self.key_norm = nn.RMSNorm(config.key_size, config.norm_epsilon, "attn_k_norm")

    def prepare(self, query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
        """Normalizes ``[batch, sequence, heads * head_dim]``."""
        return self.query_norm(query), self.key_norm(key)


class PostNormBlock(nn.Module):
    """Attention and a feed-forward network, each before a normalization and beside a residual."""

    def __init__(self, config: DecoderConfig) -> None:
        width, epsilon = config.hidden_size, config.norm_epsilon
        self.attention = QKNormAttention(config)
        self.attention_norm = nn.RMSNorm(width, epsilon, "post_attention_norm")
        self.feed_forward = nn.SwiGLU(config)
        self.feed_forward_norm = nn.RMSNorm(width, epsilon, "post_ffw_norm")

    def forward(self, x: Tensor, step: nn.Step) -> Tensor:
        """``[batch, sequence, hidden_size]`` in and out."""
        x = x + self.attention_norm(self.attention(x, step))
        return x + self.feed_forward_norm(self.feed_forward(x))


def build(config: DecoderConfig) -> nn.Decoder:
    """The network."""
    return nn.Decoder(config, [PostNormBlock(config) for _ in range(config.layers)])
