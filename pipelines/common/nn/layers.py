"""Layers that more than one decoder is made of."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from pipelines.common import ops
from pipelines.common.nn.module import Module, parameter
from pipelines.common.nn.step import KVState, Step

if TYPE_CHECKING:
    from torch import Tensor


class Linear(Module):
    """``y = x Wᵀ``, plus a bias if there is one: ``[..., inputs]`` to ``[..., outputs]``."""

    def __init__(self, inputs: int, outputs: int, *, bias: bool = False) -> None:
        self.weight = parameter(outputs, inputs)
        self.bias = parameter(outputs) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """Multiplies, and adds the bias."""
        y = ops.linear(x, self.weight)
        return y if self.bias is None else y + self.bias


class Embedding(Module):
    """Token ids ``[batch, sequence]`` to vectors ``[batch, sequence, width]``."""

    def __init__(self, rows: int, width: int) -> None:
        self.weight = parameter(rows, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Looks up."""
        return ops.embedding(tokens, self.weight)


class RMSNorm(Module):
    """Scales vectors of `width` elements to a root mean square of one, then by a learned weight."""

    def __init__(self, width: int, epsilon: float) -> None:
        self.weight = parameter(width)
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        """Normalizes the last dimension."""
        return ops.rms_norm(x, self.weight, self.epsilon)


class Attention(Module):
    """Grouped-query self-attention with rotary positions.

    A decoder that treats queries and keys before their rotation overrides `prepare`.

    Args:
        hidden_size: Width of what comes in and goes out.
        heads: Query heads.
        kv_heads: Key and value heads; each serves ``heads / kv_heads`` query heads.
        head_dim: Elements of one head.
        scale: What the products of queries and keys are multiplied by.
        interleaved: Which elements a rotation pairs, see `pipelines.common.ops.rope`.
        biases: Which of ``query``, ``key``, ``value`` and ``output`` have a bias.
    """

    def __init__(
        self,
        hidden_size: int,
        heads: int,
        kv_heads: int,
        head_dim: int,
        *,
        scale: float,
        interleaved: bool,
        biases: Collection[str] = (),
    ) -> None:
        queries, keys = heads * head_dim, kv_heads * head_dim
        self.query = Linear(hidden_size, queries, bias="query" in biases)
        self.key = Linear(hidden_size, keys, bias="key" in biases)
        self.value = Linear(hidden_size, keys, bias="value" in biases)
        self.output = Linear(queries, hidden_size, bias="output" in biases)
        self.head_dim = head_dim
        self.scale = scale
        self.interleaved = interleaved

    def prepare(self, query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
        """What happens to queries and keys between projection and rotation: here, nothing."""
        return query, key

    def forward(self, x: Tensor, step: Step, state: KVState) -> tuple[Tensor, KVState]:
        """Mixes ``[batch, sequence, hidden_size]`` over the sequence; returns the new state too."""
        query, key = self.prepare(self.query(x), self.key(x))
        mixed, new_key, new_value = ops.attention(
            self._rotate(query, step),
            self._rotate(key, step),
            self.value(x),
            state.key,
            state.value,
            step.past,
            step.total,
            self.head_dim,
            self.scale,
        )
        return self.output(mixed), KVState(new_key, new_value)

    def _rotate(self, x: Tensor, step: Step) -> Tensor:
        return ops.rope(x, step.past, step.cos, step.sin, self.head_dim, int(self.interleaved))


class SwiGLU(Module):
    """Gated feed-forward network (Shazeer 2020, arXiv:2002.05202).

    Args:
        hidden_size: Width of what comes in and goes out.
        intermediate_size: Width inside.
        biases: Which of ``gate``, ``up`` and ``down`` have a bias.
    """

    def __init__(
        self, hidden_size: int, intermediate_size: int, *, biases: Collection[str] = ()
    ) -> None:
        self.gate = Linear(hidden_size, intermediate_size, bias="gate" in biases)
        self.up = Linear(hidden_size, intermediate_size, bias="up" in biases)
        self.down = Linear(intermediate_size, hidden_size, bias="down" in biases)

    def forward(self, x: Tensor) -> Tensor:
        """Transforms each vector of ``[..., hidden_size]`` by itself."""
        return self.down(ops.silu(self.gate(x)) * self.up(x))
