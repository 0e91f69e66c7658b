"""Layers that more than one decoder is made of."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pipelines.common import ops
from pipelines.common.nn.step import KVState, Step


class Linear(nn.Module):
    """``y = x Wᵀ`` without a bias: ``[..., inputs]`` to ``[..., outputs]``."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))

    def forward(self, x: Tensor) -> Tensor:
        """Multiplies."""
        return ops.linear(x, self.weight)


class Embedding(nn.Module):
    """Token ids ``[batch, sequence]`` to vectors ``[batch, sequence, width]``."""

    def __init__(self, rows: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(rows, width))

    def forward(self, tokens: Tensor) -> Tensor:
        """Looks up."""
        return ops.embedding(tokens, self.weight)


class RMSNorm(nn.Module):
    """Scales vectors of `width` elements to a root mean square of one, then by a learned weight."""

    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        """Normalizes the last dimension."""
        return ops.rms_norm(x, self.weight, self.epsilon)


class Attention(nn.Module):
    """Grouped-query self-attention with rotary positions.

    A decoder that treats queries and keys before their rotation overrides `prepare`.

    Args:
        hidden_size: Width of what comes in and goes out.
        heads: Query heads.
        kv_heads: Key and value heads; each serves ``heads / kv_heads`` query heads.
        head_dim: Elements of one head.
        interleaved: Which elements a rotation pairs, see `pipelines.common.ops.rope`.
    """

    def __init__(
        self, hidden_size: int, heads: int, kv_heads: int, head_dim: int, *, interleaved: bool
    ) -> None:
        super().__init__()
        self.query = Linear(hidden_size, heads * head_dim)
        self.key = Linear(hidden_size, kv_heads * head_dim)
        self.value = Linear(hidden_size, kv_heads * head_dim)
        self.output = Linear(heads * head_dim, hidden_size)
        self.head_dim = head_dim
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
            self.head_dim**-0.5,
        )
        return self.output(mixed), KVState(new_key, new_value)

    def _rotate(self, x: Tensor, step: Step) -> Tensor:
        return ops.rope(x, step.past, step.cos, step.sin, self.head_dim, int(self.interleaved))


class SwiGLU(nn.Module):
    """Gated feed-forward network (Shazeer 2020, arXiv:2002.05202)."""

    def __init__(self, hidden_size: int, intermediate_size: int) -> None:
        super().__init__()
        self.gate = Linear(hidden_size, intermediate_size)
        self.up = Linear(hidden_size, intermediate_size)
        self.down = Linear(intermediate_size, hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        """Transforms each vector of ``[..., hidden_size]`` by itself."""
        return self.down(ops.silu(self.gate(x)) * self.up(x))
