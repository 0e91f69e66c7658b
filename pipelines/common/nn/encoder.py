"""Encoders of whole texts, as BERT is one (Devlin et al. 2018, arXiv:1810.04805)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from pipelines.common import ops
from pipelines.common.encoder.config import EncoderConfig
from pipelines.common.nn.interface import Interface
from pipelines.common.nn.layers import Embedding, LayerNorm, Linear
from pipelines.common.nn.module import Module
from pipelines.common.nn.network import Network
from pipelines.common.ops.value import Spec

if TYPE_CHECKING:
    from torch import Tensor

TEXTS: Final[Mapping[str, Spec]] = {
    "tokens": Spec(("batch", "sequence"), "int64"),
    "positions": Spec((1, "sequence"), "int64"),
    "token_types": Spec(("batch", "sequence"), "int64"),
}
"""The arrays of whole texts of one length: tokens, their places, and which of two texts that are
read together each belongs to."""


class EncoderBlock(Module):
    """Attention and a feed-forward network, each with its input normalized behind it.

    Args:
        config: Dimensions of the encoder.
    """

    def __init__(self, config: EncoderConfig) -> None:
        width, inner, epsilon = config.hidden_size, config.intermediate_size, config.norm_epsilon
        self.query = Linear(width, width, "attn_q", bias=True)
        self.key = Linear(width, width, "attn_k", bias=True)
        self.value = Linear(width, width, "attn_v", bias=True)
        self.output = Linear(width, width, "attn_output", bias=True)
        self.attention_norm = LayerNorm(width, epsilon, "attn_output_norm")
        self.up = Linear(width, inner, "ffn_up", bias=True)
        self.down = Linear(inner, width, "ffn_down", bias=True)
        self.feed_forward_norm = LayerNorm(width, epsilon, "layer_output_norm")
        self.head_dim = config.head_dim

    def forward(self, x: Tensor) -> Tensor:
        """``[batch, sequence, hidden_size]`` in and out."""
        inputs = (self.query(x), self.key(x), self.value(x))
        mixed = ops.self_attention(*inputs, self.head_dim, self.head_dim**-0.5)
        x = self.attention_norm(x + self.output(mixed))
        made: Tensor = self.feed_forward_norm(x + self.down(ops.gelu(self.up(x))))
        return made


class Encoder(Network):
    """Token ids to a vector each.

    Args:
        config: Its dimensions.
    """

    def __init__(self, config: EncoderConfig) -> None:
        width = config.hidden_size
        self.embedding = Embedding(config.vocabulary, width)
        self.positions = Embedding(config.context_length, width, "position_embd")
        self.token_types = Embedding(2, width, "token_types")
        self.norm = LayerNorm(width, config.norm_epsilon, "token_embd_norm")
        self.layers = [EncoderBlock(config) for _ in range(config.layers)]
        for number, layer in enumerate(self.layers):
            layer.prefix = f"blk.{number}."
        self.vocabulary = config.vocabulary
        self.hidden_size = width
        self.widest = max(width, config.intermediate_size)

    @property
    def interface(self) -> Interface:
        """See `Network.interface`."""
        return Interface(
            vocabulary=self.vocabulary,
            hidden_size=self.hidden_size,
            widest=self.widest,
            caches=(),
            ropes=(),
            takes=TEXTS,
            gives={"vectors": Spec(("batch", "sequence", self.hidden_size))},
        )

    def forward(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Encodes texts of one length.

        Returns:
            ``vectors`` ``[batch, sequence, hidden_size]``.
        """
        x = self.embedding(inputs["tokens"]) + self.positions(inputs["positions"])
        x = self.norm(x + self.token_types(inputs["token_types"]))
        for layer in self.layers:
            x = layer(x)
        return {"vectors": x}
