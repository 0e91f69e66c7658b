"""The network of Granite 3: Llama's, with factors on embeddings, residuals and logits.

Source: https://github.com/huggingface/transformers (models/granite).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipelines.plugin import DecoderConfig, key, nn

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class GraniteConfig(DecoderConfig):
    """A decoder's dimensions, and the factors.

    Attributes:
        embedding_scale: Of the vectors of tokens.
        residual_scale: Of what each half of a layer adds.
        logit_scale: What logits are divided by.
    """

    embedding_scale: float = key("embedding_scale", 1.0, least=1e-6, most=1e6)
    residual_scale: float = key("residual_scale", 1.0, least=1e-6, most=1e6)
    logit_scale: float = key("logit_scale", 1.0, least=1e-6, most=1e6)


class ScaledBlock(nn.Block):
    """A layer whose halves are scaled before they are added."""

    def __init__(self, config: GraniteConfig) -> None:
        super().__init__(config)
        self.scale = config.residual_scale

    def add(self, x: Tensor, made: Tensor) -> Tensor:
        """Adds what a half of the layer has made."""
        return x + made * self.scale


class ScaledDecoder(nn.Decoder):
    """A decoder with factors at both ends."""

    def __init__(self, config: GraniteConfig) -> None:
        super().__init__(config, [ScaledBlock(config) for _ in range(config.layers)])
        self.embedding_scale = config.embedding_scale
        self.logit_scale = config.logit_scale

    def embed(self, tokens: Tensor) -> Tensor:
        """The vectors of tokens."""
        return super().embed(tokens) * self.embedding_scale

    def logits(self, x: Tensor) -> Tensor:
        """Logits of vectors."""
        return super().logits(x) / self.logit_scale


def build(config: GraniteConfig) -> nn.Decoder:
    """The network."""
    return ScaledDecoder(config)
