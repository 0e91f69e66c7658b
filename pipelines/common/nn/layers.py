"""Layers that more than one decoder is made of."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from pipelines.common import ops
from pipelines.common.checkpoints.table import Kind
from pipelines.common.decoder.config import DecoderConfig
from pipelines.common.nn.interface import KVCache
from pipelines.common.nn.module import Module, parameter
from pipelines.common.nn.step import KVState, Step
from pipelines.common.rotary.rope import Rope

if TYPE_CHECKING:
    from torch import Tensor


class Linear(Module):
    """``y = x Wᵀ``, plus a bias if there is one: ``[..., inputs]`` to ``[..., outputs]``.

    Args:
        inputs: Width of what comes in.
        outputs: Width of what goes out.
        tensor: Name of its tensors without ``.weight`` and ``.bias``.
        bias: Whether it has a bias.
        kind: ``head`` for the output matrix, which keeps more bits than others.
        rows: The rows of the tensors that it is, where these are of several matrices.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        tensor: str,
        *,
        bias: bool = False,
        kind: Kind = "linear",
        rows: tuple[int, int] | None = None,
    ) -> None:
        self.weight = parameter(outputs, inputs, tensor=f"{tensor}.weight", kind=kind, rows=rows)
        self.bias = parameter(outputs, tensor=f"{tensor}.bias", rows=rows) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """Multiplies, and adds the bias."""
        y = ops.linear(x, self.weight)
        return y if self.bias is None else y + self.bias


class Embedding(Module):
    """Token ids ``[batch, sequence]`` to vectors ``[batch, sequence, width]``.

    Args:
        rows: Tokens in the vocabulary.
        width: Elements of a vector.
        tensor: What model files call its tensor, without ``.weight``.
    """

    def __init__(self, rows: int, width: int, tensor: str = "token_embd") -> None:
        self.weight = parameter(rows, width, tensor=f"{tensor}.weight", kind="embedding")

    def forward(self, tokens: Tensor) -> Tensor:
        """Looks up."""
        return ops.embedding(tokens, self.weight)


class RMSNorm(Module):
    """Scales vectors of `width` elements to a root mean square of one, then by a learned weight.

    Args:
        width: Elements of a vector.
        epsilon: Added to the mean square.
        tensor: What model files call its tensor, without ``.weight``.
    """

    def __init__(self, width: int, epsilon: float, tensor: str) -> None:
        self.weight = parameter(width, tensor=f"{tensor}.weight")
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        """Normalizes the last dimension."""
        return ops.rms_norm(x, self.weight, self.epsilon)


class LayerNorm(Module):
    """Vectors of `width` elements to mean zero and variance one, then a learned weight and bias.

    Args:
        width: Elements of a vector.
        epsilon: Added to the variance.
        tensor: What model files call its tensors, without ``.weight`` and ``.bias``.
    """

    def __init__(self, width: int, epsilon: float, tensor: str) -> None:
        self.weight = parameter(width, tensor=f"{tensor}.weight")
        self.bias = parameter(width, tensor=f"{tensor}.bias")
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        """Normalizes the last dimension."""
        return ops.layer_norm(x, self.weight, self.bias, self.epsilon)


class Attention(Module):
    """Grouped-query self-attention with rotary positions.

    A decoder that treats queries and keys before their rotation overrides `prepare`; one whose
    projections are parts of one tensor assigns others.

    Args:
        config: The decoder's dimensions.
        window: Tokens that each token sees, itself included; 0 for all before it.
        rope: The rotary embedding; the config's if there is no other.
        cap: What scores come near and never reach; 0 for no such.
        sinks: Whether each head has a score without a value.
    """

    def __init__(
        self,
        config: DecoderConfig,
        *,
        window: int = 0,
        rope: Rope | None = None,
        cap: float = 0.0,
        sinks: bool = False,
    ) -> None:
        # What holds every sequence is none.
        window = window if window < config.context_length else 0
        self.cache = KVCache(
            config.heads, config.kv_heads, config.head_dim, window, config.value_dim
        )
        self.rope = rope or config.rope
        self.cap = cap
        self.sinks = parameter(config.heads, tensor="attn_sinks.weight") if sinks else None
        self.query = projection(config, "attn_q", config.hidden_size, config.query_size)
        self.key = projection(config, "attn_k", config.hidden_size, config.key_size)
        self.value = projection(config, "attn_v", config.hidden_size, config.value_size)
        self.output = projection(config, "attn_output", config.mixed_size, config.hidden_size)
        self.head_dim = config.head_dim
        self.value_dim = config.value_dim
        self.scale = config.attention_scale
        self.interleaved = config.interleaved

    def prepare(self, query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
        """What happens to queries and keys between projection and rotation: here, nothing."""
        return query, key

    def forward(self, x: Tensor, step: Step) -> Tensor:
        """Mixes ``[batch, sequence, hidden_size]`` over the sequence."""
        query, key = self.prepare(self.query(x), self.key(x))
        halves = step.state(self.cache)
        inputs = (self._rotate(query, step), self._rotate(key, step), self.value(x), *halves)
        sizes = (step.past, step.total, self.head_dim, self.scale)
        mixed, new_key, new_value = ops.attention(
            *inputs,
            *sizes,
            sinks=self.sinks,
            window=self.cache.window,
            cap=self.cap,
            value_dim=self.value_dim,
        )
        step.keep(self.cache, KVState(new_key, new_value))
        return self.output(mixed)

    def _rotate(self, x: Tensor, step: Step) -> Tensor:
        tables = step.rotation(self.rope)
        return ops.rope(x, step.past, *tables, self.head_dim, int(self.interleaved))


class HeadNormAttention(Attention):
    """`Attention` that normalizes each head of queries and keys before it rotates them.

    Source: Henry et al. 2020, arXiv:2010.04245.

    Args:
        config: See `Attention`.
        options: See `Attention`.
    """

    def __init__(self, config: DecoderConfig, **options: Any) -> None:
        super().__init__(config, **options)
        self.query_norm = RMSNorm(config.head_dim, config.norm_epsilon, "attn_q_norm")
        self.key_norm = RMSNorm(config.head_dim, config.norm_epsilon, "attn_k_norm")

    def prepare(self, query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
        """Normalizes ``[batch, sequence, heads * head_dim]`` over each head."""
        by_head = (-1, self.head_dim)
        return (
            self.query_norm(query.unflatten(-1, by_head)).flatten(-2),
            self.key_norm(key.unflatten(-1, by_head)).flatten(-2),
        )


class SwiGLU(Module):
    """Feed-forward network with a gate through SiLU (Shazeer 2020, arXiv:2002.05202).

    Args:
        config: The decoder's dimensions.
    """

    def __init__(self, config: DecoderConfig) -> None:
        self.gate = projection(config, "ffn_gate", config.hidden_size, config.intermediate_size)
        self.up = projection(config, "ffn_up", config.hidden_size, config.intermediate_size)
        self.down = projection(config, "ffn_down", config.intermediate_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        """Transforms each vector of ``[..., hidden_size]`` by itself."""
        return self.down(self.activate(self.gate(x)) * self.up(x))

    def activate(self, gate: Tensor) -> Tensor:
        """What the gate goes through."""
        return ops.silu(gate)


class GeGLU(SwiGLU):
    """The same with a gate through GELU, as approximated by tanh."""

    def activate(self, gate: Tensor) -> Tensor:
        """What the gate goes through."""
        return ops.gelu(gate, tanh=1)


def projection(
    config: DecoderConfig,
    tensor: str,
    inputs: int,
    outputs: int,
    rows: tuple[int, int] | None = None,
) -> Linear:
    """A matrix of a layer, with a bias if the checkpoint has one for it.

    Args:
        config: The decoder's dimensions.
        tensor: See `Linear`.
        inputs: See `Linear`.
        outputs: See `Linear`.
        rows: See `Linear`.
    """
    return Linear(inputs, outputs, tensor, bias=tensor in config.biases, rows=rows)


def fused(config: DecoderConfig, tensor: str, inputs: int, outputs: Sequence[int]) -> list[Linear]:
    """Matrices of a layer that are one tensor in a checkpoint, the rows of one after the other's.

    Args:
        config: The decoder's dimensions.
        tensor: See `Linear`.
        inputs: Width of what comes in.
        outputs: Width of what goes out, of each matrix.
    """
    ends = list(accumulate(outputs))
    return [
        projection(config, tensor, inputs, size, (end - size, end))
        for size, end in zip(outputs, ends, strict=True)
    ]
