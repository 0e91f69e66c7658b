"""The patterns of neutral operators that rules look for: one for each operator, and the fusions.

A target's rule, or an op package's, takes one of these or writes its own in the same way.
"""

from __future__ import annotations

from typing import Any


def linear(op: Any, x: Any, weight: Any) -> Any:
    """One `Linear`."""
    return op.Linear(x, weight)


def embedding(op: Any, tokens: Any, weight: Any) -> Any:
    """One `Embedding`."""
    return op.Embedding(tokens, weight)


def rms_norm(op: Any, x: Any, weight: Any, epsilon: Any) -> Any:
    """One `RMSNorm`."""
    return op.RMSNorm(x, weight, epsilon=epsilon)


def silu(op: Any, x: Any) -> Any:
    """One `SiLU`."""
    return op.SiLU(x)


def select(op: Any, x: Any, wanted: Any) -> Any:
    """One `Select`."""
    return op.Select(x, wanted)


def rope(op: Any, x: Any, past: Any, cos: Any, sin: Any, head_dim: Any, interleaved: Any) -> Any:
    """One `RoPE`."""
    return op.RoPE(x, past, cos, sin, head_dim=head_dim, interleaved=interleaved)


def attention(
    op: Any,
    query: Any,
    key: Any,
    value: Any,
    past_key: Any,
    past_value: Any,
    past: Any,
    total: Any,
    head_dim: Any,
    scale: Any,
) -> Any:
    """One `Attention`, with its three outputs."""
    state = (past_key, past_value, past, total)
    return op.Attention(query, key, value, *state, head_dim=head_dim, scale=scale, _outputs=3)


def rope_attention(
    op: Any,
    query: Any,
    key: Any,
    value: Any,
    past_key: Any,
    past_value: Any,
    past: Any,
    total: Any,
    cos: Any,
    sin: Any,
    head_dim: Any,
    scale: Any,
    interleaved: Any,
) -> Any:
    """`Attention` over queries and keys that `RoPE` has just rotated."""
    query = rope(op, query, past, cos, sin, head_dim, interleaved)
    key = rope(op, key, past, cos, sin, head_dim, interleaved)
    return attention(op, query, key, value, past_key, past_value, past, total, head_dim, scale)
