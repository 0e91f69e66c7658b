"""The network of Qwen 1.5 and 2 with experts (arXiv:2407.10671): one of them has every token.

Source: https://github.com/huggingface/transformers (models/qwen2_moe).
"""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.plugin import MixtureConfig, key, nn


@dataclass(frozen=True)
class Qwen2MoeConfig(MixtureConfig):
    """A decoder's dimensions.

    Attributes:
        experts: As everywhere, but that there are some.
        experts_used: Likewise.
        expert_normalize: As everywhere, but that the weights of experts are left as they are.
        shared_width: Width inside of the expert that has every token.
    """

    experts: int = key("expert_count", least=1, most=2**16)
    experts_used: int = key("expert_used_count", least=1, most=2**16)
    expert_normalize: bool = key("expert_weights_norm", default=False)
    shared_width: int = key("expert_shared_feed_forward_length", least=1, most=2**31 - 1)


def build(config: Qwen2MoeConfig) -> nn.Decoder:
    """Llama's layers with those experts; biases are where the file has them."""
    blocks = []
    for _ in range(config.layers):
        shared = nn.SharedExpert(config.hidden_size, config.shared_width)
        blocks.append(nn.Block(config, feed_forward=nn.Experts(config, shared)))
    return nn.Decoder(config, blocks)
