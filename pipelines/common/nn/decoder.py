"""The frame that decoder-only language models share: embed, run the blocks, project to logits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

from pipelines.common import ops
from pipelines.common.decoder.config import DecoderConfig
from pipelines.common.nn.interface import Interface, KVCache
from pipelines.common.nn.layers import Attention, Embedding, Linear, RMSNorm, SwiGLU
from pipelines.common.nn.module import Module
from pipelines.common.nn.network import Network
from pipelines.common.nn.step import Step
from pipelines.common.ops.value import Spec
from pipelines.common.rotary.rope import Rope

if TYPE_CHECKING:
    from torch import Tensor

STEP: Final[Mapping[str, Spec]] = {
    "tokens": Spec(("batch", "sequence"), "int64"),
    "past": Spec(("batch",), "int32"),
    "total": Spec(("batch",), "int32"),
    "wanted": Spec(("batch", "wanted"), "int64"),
}
"""The arrays of a step: tokens, padded on the right; how many each row's state has before and
after it; and the places whose logits are wanted."""


class Block(Module):
    """Attention and a feed-forward network, each behind a normalization and beside a residual.

    Args:
        config: The decoder's dimensions.
        attention: ``(x, step) -> x``; `Attention` if there is no other.
        feed_forward: ``x -> x``; `SwiGLU` if there is no other.
        feed_forward_norm: Name of the tensor of the normalization before that, without
            ``.weight``.
    """

    def __init__(
        self,
        config: DecoderConfig,
        attention: Module | None = None,
        feed_forward: Module | None = None,
        feed_forward_norm: str = "ffn_norm",
    ) -> None:
        self.attention_norm = RMSNorm(config.hidden_size, config.norm_epsilon, "attn_norm")
        self.attention = attention or Attention(config)
        self.feed_forward_norm = RMSNorm(config.hidden_size, config.norm_epsilon, feed_forward_norm)
        self.feed_forward = feed_forward or SwiGLU(config)

    def forward(self, x: Tensor, step: Step) -> Tensor:
        """``[batch, sequence, hidden_size]`` in and out."""
        x = self.add(x, self.attention(self.attention_norm(x), step))
        return self.add(x, self.feed_forward(self.feed_forward_norm(x)))

    def add(self, x: Tensor, made: Tensor) -> Tensor:
        """Adds what a half of the layer has made to what came in."""
        return x + made


class Decoder(Network):
    """Token ids to logits, over what its layers keep of each sequence.

    Args:
        config: The decoder's dimensions.
        blocks: The layers, each ``(x, step) -> x`` like `Block`.
    """

    def __init__(self, config: DecoderConfig, blocks: Iterable[Module]) -> None:
        self.embedding = Embedding(config.vocabulary, config.hidden_size)
        self.layers = list(blocks)
        for number, layer in enumerate(self.layers):
            layer.prefix = f"blk.{number}."
        self.norm = RMSNorm(config.hidden_size, config.norm_epsilon, "output_norm")
        head = "token_embd" if config.tied else "output"
        self.head = Linear(config.hidden_size, config.vocabulary, head, kind="head")
        self.vocabulary = config.vocabulary
        self.hidden_size = config.hidden_size
        self.widest = max(
            config.hidden_size, config.intermediate_size, config.query_size, config.mixed_size
        )

    @property
    def interface(self) -> Interface:
        """See `Network.interface`; the layers that it has now are what counts."""
        return Interface(
            vocabulary=self.vocabulary,
            hidden_size=self.hidden_size,
            widest=self.widest,
            caches=self.held(KVCache),
            ropes=self.held(Rope),
            takes=STEP,
            gives={"logits": Spec(("batch", "wanted", self.vocabulary))},
        )

    def forward(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Runs tokens on top of the state.

        Args:
            inputs: What `Interface.inputs` declares, by name.

        Returns:
            ``logits`` ``[batch, wanted, vocabulary]``, and the new state, by name.
        """
        interface = self.interface
        step = Step(interface, inputs)
        x = self.embed(inputs["tokens"])
        for layer in self.layers:
            x = layer(x, step)
        logits = self.logits(ops.select(x, inputs["wanted"]))
        return {"logits": logits, **step.kept(interface)}

    def embed(self, tokens: Tensor) -> Tensor:
        """The vectors of tokens, ``[batch, sequence, hidden_size]``."""
        vectors: Tensor = self.embedding(tokens)
        return vectors

    def logits(self, x: Tensor) -> Tensor:
        """The logits of vectors ``[batch, wanted, hidden_size]``."""
        logits: Tensor = self.head(self.norm(x))
        return logits
