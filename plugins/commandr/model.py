"""The network of Command-R: attention and feed-forward beside each other, behind one norm.

Source: https://github.com/huggingface/transformers (models/cohere).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipelines.plugin import DecoderConfig, key, nn

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class CommandRConfig(DecoderConfig):
    """A decoder's dimensions, and the factor.

    Attributes:
        logit_scale: What logits are multiplied by.
    """

    logit_scale: float = key("logit_scale", least=1e-6, most=1e6)


class PlainNorm(nn.RMSNorm):
    """A layer normalization without a bias: the root mean square of what is centred."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalizes the last dimension."""
        return super().forward(x - x.mean(-1, keepdim=True))


class ParallelBlock(nn.Module):
    """Attention and a feed-forward network beside each other."""

    def __init__(self, config: CommandRConfig) -> None:
        self.norm = PlainNorm(config.hidden_size, config.norm_epsilon, "attn_norm")
        self.attention = nn.Attention(config)
        self.feed_forward = nn.SwiGLU(config)

    def forward(self, x: Tensor, step: nn.Step) -> Tensor:
        """``[batch, sequence, hidden_size]`` in and out."""
        normal = self.norm(x)
        return x + self.attention(normal, step) + self.feed_forward(normal)


class CommandR(nn.Decoder):
    """A decoder of such layers whose logits are scaled."""

    def __init__(self, config: CommandRConfig) -> None:
        super().__init__(config, [ParallelBlock(config) for _ in range(config.layers)])
        self.norm = PlainNorm(config.hidden_size, config.norm_epsilon, "output_norm")
        self.logit_scale = config.logit_scale

    def logits(self, x: Tensor) -> Tensor:
        """The logits of vectors ``[batch, wanted, hidden_size]``."""
        return super().logits(x) * self.logit_scale


def build(config: CommandRConfig) -> nn.Decoder:
    """The network."""
    return CommandR(config)
