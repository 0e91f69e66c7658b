"""The network of Llama 3 (Grattafiori et al. 2024, arXiv:2407.21783)."""

from __future__ import annotations

from torch import Tensor, nn

from pipelines.common.decoder.config import DecoderConfig
from pipelines.common.nn import Attention, KVState, RMSNorm, Step, SwiGLU
from pipelines.common.nn.decoder import Decoder


class Block(nn.Module):
    """Attention and feed-forward network, each behind a normalization and beside a residual."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(config.hidden_size, config.norm_epsilon)
        self.attention = Attention(
            config.hidden_size,
            config.heads,
            config.kv_heads,
            config.head_dim,
            interleaved=True,  # GGUF keeps Meta's order of Q and K rows
        )
        self.feed_forward_norm = RMSNorm(config.hidden_size, config.norm_epsilon)
        self.feed_forward = SwiGLU(config.hidden_size, config.intermediate_size)

    def forward(self, x: Tensor, step: Step, state: KVState) -> tuple[Tensor, KVState]:
        """``[batch, sequence, hidden_size]`` in and out, with the layer's new KV state."""
        attended, state = self.attention(self.attention_norm(x), step, state)
        x = x + attended
        return x + self.feed_forward(self.feed_forward_norm(x)), state


def build(config: DecoderConfig) -> Decoder:
    """The network with empty weights."""
    return Decoder(
        vocabulary=config.vocabulary,
        hidden_size=config.hidden_size,
        epsilon=config.norm_epsilon,
        layers=config.layers,
        block=lambda: Block(config),
    )
