"""The network of gpt-oss (arXiv:2508.10925).

Source: https://github.com/openai/gpt-oss (gpt_oss/torch/model.py).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from pipelines.plugin import MixtureConfig, key, nn


@dataclass(frozen=True)
class GptOssConfig(MixtureConfig):
    """A decoder's dimensions.

    Attributes:
        experts: As everywhere, but that there are some.
        experts_used: Likewise.
        expert_gating: As everywhere, but that files need not say that it is a softmax over those
            that are chosen.
        window: Tokens that a token of a local layer sees, itself included.
    """

    experts: int = key("expert_count", least=1, most=2**16)
    experts_used: int = key("expert_used_count", least=1, most=2**16)
    expert_gating: int = key("expert_gating_func", 3, least=3, most=3)
    window: int = key("attention.sliding_window", 128, least=1, most=2**31 - 1)


def build(config: GptOssConfig) -> nn.Decoder:
    """Every other layer is local; each head has a sink, and biases are where the file has them."""
    rope = replace(config.rope, scaling=replace(config.rope.scaling, rounded=False))
    blocks = []
    for number in range(config.layers):
        window = 0 if number % 2 else config.window
        attention = nn.Attention(config, window=window, rope=rope, sinks=True)
        experts = nn.Experts(config, alpha=1.702, limit=7.0, offset=1.0)
        blocks.append(nn.Block(config, attention, experts, "post_attention_norm"))
    return nn.Decoder(config, blocks)
