"""The network of Phi-3 (arXiv:2404.14219) and Phi-4: Llama's, with matrices in one tensor."""

from __future__ import annotations

from pipelines.plugin import DecoderConfig, nn


class FusedAttention(nn.Attention):
    """Attention whose projections are the rows of one tensor, one after the other."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__(config)
        self.query, self.key, self.value = nn.fused(
            config,
            "attn_qkv",
            config.hidden_size,
            (config.query_size, config.key_size, config.key_size),
        )


class FusedSwiGLU(nn.SwiGLU):
    """A gated feed-forward network, the gate's rows before those of what it gates."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__(config)
        sizes = (config.intermediate_size, config.intermediate_size)
        self.gate, self.up = nn.fused(config, "ffn_up", config.hidden_size, sizes)


def build(config: DecoderConfig) -> nn.Decoder:
    """The network."""
    blocks = [
        nn.Block(config, FusedAttention(config), FusedSwiGLU(config)) for _ in range(config.layers)
    ]
    return nn.Decoder(config, blocks)
