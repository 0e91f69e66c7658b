"""The patterns of neutral operators that rules look for: one for each operator, and the fusions.

A target's rule, or an op package's, takes one of these or writes its own in the same way. What
binds many values has them in a record, see `records`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

_ATTRIBUTES = ("head_dim", "scale", "window", "cap", "value_dim")


@dataclass(frozen=True)
class AttentionInputs:
    """What `Attention` takes, in its order; `pipelines.common.ops.attention` says what it means.

    Attributes:
        query: ``[batch, sequence, heads * head_dim]``.
        key: ``[batch, sequence, kv_heads * head_dim]``.
        value: ``[batch, sequence, kv_heads * value_size]``.
        past_key: One half of the KV state, ``[slots, kv_heads, capacity, head_dim]``.
        past_value: The other, ``[slots, kv_heads, capacity, value_size]``.
        past: Tokens in the state before the call, ``[batch]``.
        total: Tokens in it afterwards, ``[batch]``.
        head_dim: Elements of one head of queries and keys, an attribute.
        scale: Factor on the scores, an attribute.
        sinks: A score of each head without a value, ``[heads]``; None for none.
        window: Tokens that each token sees, an attribute; 0 for all before it.
        cap: What scores do not reach, an attribute; 0 for no such.
        value_dim: Elements of one head of values, an attribute; 0 for `head_dim`.
    """

    query: Any
    key: Any
    value: Any
    past_key: Any
    past_value: Any
    past: Any
    total: Any
    head_dim: Any
    scale: Any
    sinks: Any = None
    window: Any = None
    cap: Any = None
    value_dim: Any = None

    @property
    def value_size(self) -> int:
        """Elements of one head of values."""
        return self.value_dim.as_int() or self.head_dim.as_int()

    def split(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The tensors in their order, and the attributes by name."""
        bound = dict(vars(self))
        attributes = {name: bound.pop(name) for name in _ATTRIBUTES}
        return tuple(bound.values()), attributes


@dataclass(frozen=True)
class Rotation:
    """How `RoPE` turns heads.

    Attributes:
        cos: Cosines of the angles, ``[positions, head_dim / 2]``.
        sin: Their sines, likewise.
        interleaved: Whether pairs are neighbours and not halves, an attribute.
    """

    cos: Any
    sin: Any
    interleaved: Any


@dataclass(frozen=True)
class ExpertsInputs:
    """What `Experts` takes beside logits; `pipelines.common.ops.experts` says what it means.

    Attributes:
        x: ``[batch, sequence, hidden]``.
        gate: ``[experts, inner, hidden]``.
        up: Like `gate`.
        down: ``[experts, hidden, inner]``.
        used: Experts a token, an attribute.
        routing: How weights are made, an attribute.
        normalize: Whether they are divided by their sum, an attribute.
        scale: Factor on them, an attribute.
        gate_bias: ``[experts, inner]``; None for none, of all three.
        up_bias: Likewise.
        down_bias: ``[experts, hidden]``.
        alpha: Factor inside of the gate's sigmoid, an attribute.
        limit: Bound of what goes into the gate, an attribute; 0 for no such.
        offset: What is added to what the gate multiplies, an attribute.
    """

    x: Any
    gate: Any
    up: Any
    down: Any
    used: Any
    routing: Any
    normalize: Any
    scale: Any
    gate_bias: Any = None
    up_bias: Any = None
    down_bias: Any = None
    alpha: Any = None
    limit: Any = None
    offset: Any = None


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


def gelu(op: Any, x: Any, tanh: Any) -> Any:
    """One `GELU`."""
    return op.GELU(x, tanh=tanh)


def layer_norm(op: Any, x: Any, weight: Any, bias: Any, epsilon: Any) -> Any:
    """One `LayerNorm`."""
    return op.LayerNorm(x, weight, bias, epsilon=epsilon)


def select(op: Any, x: Any, wanted: Any) -> Any:
    """One `Select`."""
    return op.Select(x, wanted)


def rope(op: Any, x: Any, past: Any, head_dim: Any, rotation: Rotation) -> Any:
    """One `RoPE`."""
    tables = (rotation.cos, rotation.sin)
    return op.RoPE(x, past, *tables, head_dim=head_dim, interleaved=rotation.interleaved)


def attention(op: Any, inputs: AttentionInputs) -> Any:
    """One `Attention`, with its three outputs."""
    tensors, attributes = inputs.split()
    return op.Attention(*tensors, **attributes, _outputs=3)


def experts(op: Any, logits: Any, inputs: ExpertsInputs) -> Any:
    """One `Experts`."""
    return op.Experts(
        inputs.x,
        logits,
        inputs.gate,
        inputs.up,
        inputs.down,
        inputs.gate_bias,
        inputs.up_bias,
        inputs.down_bias,
        used=inputs.used,
        routing=inputs.routing,
        normalize=inputs.normalize,
        scale=inputs.scale,
        alpha=inputs.alpha,
        limit=inputs.limit,
        offset=inputs.offset,
    )


def routed_experts(op: Any, router: Any, inputs: ExpertsInputs) -> Any:
    """`Experts` that are chosen by a product with the router's matrix."""
    return experts(op, op.Linear(inputs.x, router), inputs)


def biased_experts(op: Any, router: Any, bias: Any, inputs: ExpertsInputs) -> Any:
    """The same of a router with a bias."""
    return experts(op, op.Add(op.Linear(inputs.x, router), bias), inputs)


def self_attention(op: Any, query: Any, key: Any, value: Any, head_dim: Any, scale: Any) -> Any:
    """One `SelfAttention`."""
    return op.SelfAttention(query, key, value, head_dim=head_dim, scale=scale)


def rope_attention(op: Any, inputs: AttentionInputs, rotation: Rotation) -> Any:
    """`Attention` over queries and keys that `RoPE` has just rotated."""
    past, head_dim = inputs.past, inputs.head_dim
    query, key = (rope(op, x, past, head_dim, rotation) for x in (inputs.query, inputs.key))
    return attention(op, replace(inputs, query=query, key=key))
