"""Attention in standard operators, for heads that GroupQueryAttention does not take."""

from __future__ import annotations

from typing import Any

from pipelines.common.graph.patterns import AttentionInputs
from pipelines.common.graph.rules import Emitter
from pipelines.common.ort.arithmetic import capped, shares
from pipelines.common.ort.emit import INT64, MICROSOFT


def attention(op: Emitter, inputs: AttentionInputs) -> tuple[Any, Any, Any]:
    """`Attention`; the queries that share a head of keys are rows of one product."""
    size, value_size = inputs.head_dim.as_int(), inputs.value_size
    heads, kv_heads = op.width(inputs.query) // size, op.width(inputs.key) // size
    group = heads // kv_heads

    # Padding stands for the last token of its row once more, so that nothing is written beyond.
    start, end = op.Cast(inputs.past, to=INT64), op.Cast(inputs.total, to=INT64)
    length = op.Shape(inputs.query, start=1, end=2)
    tokens = op.Range(op.Constant(value_int=0), op.Squeeze(length), op.Constant(value_int=1))
    last = op.Sub(op.Sub(end, start), op.Constant(value_int=1))
    tokens = op.Min(tokens, _column(op, last))
    places = op.Add(_column(op, start), tokens)
    indices = _indices(op, inputs.past, places, length, kv_heads)

    def appended(half: Any, new: Any, size: int) -> Any:
        rows = op.GatherND(new, op.Unsqueeze(tokens, op.Constant(value_ints=[-1])), batch_dims=1)
        state = op.keep_state_in(half, op.activations)
        return op.ScatterND(state, indices, _by_head(op, rows, kv_heads, size))

    new_key = appended(inputs.past_key, inputs.key, size)
    new_value = appended(inputs.past_value, inputs.value, value_size)
    longest = op.ReduceMax(end, keepdims=1)

    def used(half: Any) -> Any:
        return op.Slice(half, op.Constant(value_ints=[0]), longest, op.Constant(value_ints=[2]))

    queries = _by_head(op, inputs.query, heads, size)
    queries = op.Reshape(queries, op.Constant(value_ints=[0, kv_heads, -1, size]))
    scores = op.FusedMatMul(
        queries, used(new_key), transB=1, alpha=inputs.scale.as_float(), _domain=MICROSOFT
    )
    slots = op.Range(op.Constant(value_int=0), op.Squeeze(longest), op.Constant(value_int=1))
    own = op.Unsqueeze(places, op.Constant(value_ints=[1, 3]))
    seen = op.LessOrEqual(slots, own)
    if window := inputs.window.as_int():
        before = op.Sub(own, op.Constant(value_int=window))
        seen = op.And(seen, op.Greater(slots, before))
    if group > 1:
        seen = op.Concat(*[seen] * group, axis=2)
    if cap := inputs.cap.as_float():
        scores = capped(op, scores, cap)
    scores = op.Where(seen, scores, op.Constant(value_float=-float("inf")))
    weights = shares(op, scores, inputs.sinks, group)
    mixed = op.MatMul(weights, used(new_value))
    mixed = op.Reshape(mixed, op.Constant(value_ints=[0, heads, -1, value_size]))
    mixed = op.Transpose(mixed, perm=[0, 2, 1, 3])
    return op.Reshape(mixed, op.Constant(value_ints=[0, 0, heads * value_size])), new_key, new_value


def _column(op: Emitter, x: Any) -> Any:
    """``[batch]`` to ``[batch, 1]``."""
    return op.Unsqueeze(x, op.Constant(value_ints=[1]))


def _by_head(op: Emitter, x: Any, heads: int, size: int) -> Any:
    """``[batch, sequence, heads * head_dim]`` to ``[batch, heads, sequence, head_dim]``."""
    return op.Transpose(
        op.Reshape(x, op.Constant(value_ints=[0, 0, heads, size])), perm=[0, 2, 1, 3]
    )


def _indices(op: Emitter, past: Any, places: Any, length: Any, kv_heads: int) -> Any:
    """Where in the state a call's tokens go: slot, head and place, ``[batch, heads, sequence, 3]``.

    Args:
        op: Makes the nodes.
        past: ``[batch]``.
        places: Of each token, ``[batch, sequence]``.
        length: The sequence's length, ``[1]``.
        kv_heads: Heads of the state.
    """
    batch = op.Shape(past)
    count = op.Constant(value_ints=[kv_heads])
    shape = op.Concat(batch, count, length, op.Constant(value_ints=[1]), axis=0)
    slots = op.Range(op.Constant(value_int=0), op.Squeeze(batch), op.Constant(value_int=1))
    each = (
        op.Unsqueeze(slots, op.Constant(value_ints=[1, 2, 3])),
        op.Unsqueeze(op.Constant(value_ints=[*range(kv_heads)]), op.Constant(value_ints=[1, 2])),
        op.Unsqueeze(places, op.Constant(value_ints=[1, 3])),
    )
    return op.Concat(*(op.Expand(index, shape) for index in each), axis=-1)
