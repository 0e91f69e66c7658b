"""The networks of Gemma 2 (arXiv:2408.00118) and Gemma 3 (arXiv:2503.19786)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from pipelines.plugin import DecoderConfig, key, nn

if TYPE_CHECKING:
    from torch import Tensor

C = TypeVar("C", bound=DecoderConfig)


@dataclass(frozen=True)
class Gemma2Config(DecoderConfig):
    """A decoder's dimensions.

    Attributes:
        window: Tokens that a token of a local layer sees, itself included.
        attention_cap: What scores of attention do not reach; 0 for no such.
        logit_cap: What logits do not reach; 0 for no such.
    """

    window: int = key("attention.sliding_window", 4096, least=1, most=2**31 - 1)
    attention_cap: float = key("attn_logit_softcapping", 0.0, least=0, most=1e6)
    logit_cap: float = key("final_logit_softcapping", 0.0, least=0, most=1e6)


@dataclass(frozen=True)
class Gemma3Config(Gemma2Config):
    """A decoder's dimensions.

    Attributes:
        period: Every so many layers there is one that sees everything.
        local_base: The rotary base of the others.
    """

    period: int = key("attention.sliding_window_pattern", 6, least=1, most=2**31 - 1)
    local_base: float = key("rope.freq_base_swa", 10000.0, least=1.01, most=1e30)


def scaled(config: C, largest: int) -> C:
    """The dimensions of a model, or of the largest one, which has scores scaled by another width.

    Args:
        config: As read: a file does not say it.
        largest: Layers of the model of 27B parameters.
    """
    if config.layers != largest or config.attention_factor != 1:
        return config
    return replace(config, attention_factor=(config.query_size / config.hidden_size) ** 0.5)


class SandwichBlock(nn.Module):
    """Attention and a feed-forward network, each between two normalizations."""

    def __init__(self, config: DecoderConfig, attention: nn.Attention) -> None:
        width, epsilon = config.hidden_size, config.norm_epsilon
        self.attention_norm = nn.RMSNorm(width, epsilon, "attn_norm")
        self.attention = attention
        self.attended_norm = nn.RMSNorm(width, epsilon, "post_attention_norm")
        self.feed_forward_norm = nn.RMSNorm(width, epsilon, "ffn_norm")
        self.feed_forward = nn.GeGLU(config)
        self.fed_norm = nn.RMSNorm(width, epsilon, "post_ffw_norm")

    def forward(self, x: Tensor, step: nn.Step) -> Tensor:
        """``[batch, sequence, hidden_size]`` in and out."""
        x = x + self.attended_norm(self.attention(self.attention_norm(x), step))
        return x + self.fed_norm(self.feed_forward(self.feed_forward_norm(x)))


class GemmaDecoder(nn.Decoder):
    """A decoder whose embedding is scaled, and whose logits may be capped."""

    def __init__(self, config: Gemma2Config, attentions: Iterable[nn.Attention]) -> None:
        super().__init__(config, [SandwichBlock(config, each) for each in attentions])
        self.scale = config.hidden_size**0.5
        self.cap = config.logit_cap

    def embed(self, tokens: Tensor) -> Tensor:
        """The vectors of tokens."""
        return super().embed(tokens) * self.scale

    def logits(self, x: Tensor) -> Tensor:
        """Logits of vectors."""
        logits = super().logits(x)
        return (logits / self.cap).tanh() * self.cap if self.cap else logits


def build_gemma2(config: Gemma2Config) -> nn.Decoder:
    """Every other layer is local."""
    config = scaled(config, 46)
    return GemmaDecoder(
        config,
        [
            nn.Attention(
                config, window=0 if number % 2 else config.window, cap=config.attention_cap
            )
            for number in range(config.layers)
        ],
    )


def build_gemma3(config: Gemma3Config) -> nn.Decoder:
    """Local layers have a rotary embedding of their own."""
    config = scaled(config, 62)
    local = nn.Rope(config.rope.dims, config.local_base)
    return GemmaDecoder(
        config,
        [
            nn.HeadNormAttention(config)
            if (number + 1) % config.period == 0
            else nn.HeadNormAttention(config, window=config.window, rope=local)
            for number in range(config.layers)
        ],
    )
