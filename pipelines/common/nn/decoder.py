"""The frame that decoder-only language models share: embed, run the blocks, project to logits."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pipelines.common import ops
from pipelines.common.decoder.config import DecoderConfig
from pipelines.common.nn.layers import Attention, Embedding, Linear, RMSNorm, SwiGLU
from pipelines.common.nn.module import Module
from pipelines.common.nn.step import KVState, Step

if TYPE_CHECKING:
    from torch import Tensor


class Block(Module):
    """Attention and a feed-forward network, each behind a normalization and beside a residual.

    Args:
        config: The decoder's dimensions.
        attention: ``(x, step, state) -> (x, state)``; `Attention` if there is no other.
        feed_forward: ``x -> x``; `SwiGLU` if there is no other.
    """

    def __init__(
        self,
        config: DecoderConfig,
        attention: Module | None = None,
        feed_forward: Module | None = None,
    ) -> None:
        self.attention_norm = RMSNorm(config.hidden_size, config.norm_epsilon, "attn_norm")
        self.attention = attention or Attention(config)
        self.feed_forward_norm = RMSNorm(config.hidden_size, config.norm_epsilon, "ffn_norm")
        self.feed_forward = feed_forward or SwiGLU(config)

    def forward(self, x: Tensor, step: Step, state: KVState) -> tuple[Tensor, KVState]:
        """``[batch, sequence, hidden_size]`` in and out, with the layer's new KV state."""
        attended, state = self.attention(self.attention_norm(x), step, state)
        x = self.add(x, attended)
        return self.add(x, self.feed_forward(self.feed_forward_norm(x))), state

    def add(self, x: Tensor, made: Tensor) -> Tensor:
        """Adds what a half of the layer has made to what came in."""
        return x + made


class Decoder(Module):
    """Token ids to logits, over a KV state a block.

    Args:
        config: The decoder's dimensions.
        blocks: The layers, each like `Block`.
    """

    def __init__(self, config: DecoderConfig, blocks: Iterable[Module]) -> None:
        self.embedding = Embedding(config.vocabulary, config.hidden_size)
        self.layers = list(blocks)
        for number, layer in enumerate(self.layers):
            layer.prefix = f"blk.{number}."
        self.norm = RMSNorm(config.hidden_size, config.norm_epsilon, "output_norm")
        head = "token_embd" if config.tied else "output"
        self.head = Linear(config.hidden_size, config.vocabulary, head, kind="head")

    def forward(
        self,
        tokens: Tensor,
        past: Tensor,
        total: Tensor,
        wanted: Tensor,
        cos: Tensor,
        sin: Tensor,
        keys: list[Tensor],
        values: list[Tensor],
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Runs `tokens` on top of the state.

        Args:
            tokens: ``[batch, sequence]`` int64, padded on the right.
            past: ``[batch]`` int32, tokens in each row's state before this call.
            total: ``[batch]`` int32, tokens in it afterwards.
            wanted: ``[batch, wanted]`` int64, places in the sequence whose logits are wanted.
            cos: ``[positions, head_dim / 2]``.
            sin: ``[positions, head_dim / 2]``.
            keys: One half of each layer's state.
            values: The other half.

        Returns:
            Logits ``[batch, wanted, vocabulary]``, and the new state.
        """
        step = Step(past, total, cos, sin)
        x = self.embed(tokens)
        states = []
        for layer, key, value in zip(self.layers, keys, values, strict=True):
            x, state = layer(x, step, KVState(key, value))
            states.append(state)
        logits = self.logits(ops.select(x, wanted))
        return logits, [state.key for state in states], [state.value for state in states]

    def embed(self, tokens: Tensor) -> Tensor:
        """The vectors of tokens, ``[batch, sequence, hidden_size]``."""
        vectors: Tensor = self.embedding(tokens)
        return vectors

    def logits(self, x: Tensor) -> Tensor:
        """The logits of vectors ``[batch, wanted, hidden_size]``."""
        logits: Tensor = self.head(self.norm(x))
        return logits
