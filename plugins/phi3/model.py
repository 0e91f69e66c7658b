"""The network of Phi-3 (arXiv:2404.14219) and Phi-4: Llama's, with matrices in one tensor."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.plugin import DecoderConfig, key, nn


@dataclass(frozen=True)
class Phi3Config(DecoderConfig):
    """A decoder's dimensions.

    Attributes:
        window: Tokens that each token sees, itself included; 0 for all before it.
    """

    window: int = key("attention.sliding_window", 0, least=0, most=2**31 - 1)


class FusedAttention(nn.Attention):
    """Attention in a window, whose projections are the rows of one tensor, one after the other."""

    def __init__(self, config: Phi3Config) -> None:
        super().__init__(config, window=config.window)
        sizes = (config.query_size, config.key_size, config.value_size)
        self.query, self.key, self.value = nn.fused(config, "attn_qkv", config.hidden_size, sizes)


class FusedSwiGLU(nn.SwiGLU):
    """A gated feed-forward network, the gate's rows before those of what it gates."""

    def __init__(self, config: Phi3Config) -> None:
        super().__init__(config)
        sizes = (config.intermediate_size, config.intermediate_size)
        self.gate, self.up = nn.fused(config, "ffn_up", config.hidden_size, sizes)


def build(config: Phi3Config) -> nn.Decoder:
    """The network."""
    blocks = [
        nn.Block(config, FusedAttention(config), FusedSwiGLU(config)) for _ in range(config.layers)
    ]
    return nn.Decoder(config, blocks)
