"""The neutral operators in plain arithmetic, for providers that have no better operators.

It takes products of matrices, sums, and a few functions of single numbers. What depends on where a
call's tokens stand comes in as inputs of the graph, which `feeds` computes; the state has the type
of the activations.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pipelines.common.graph.patterns import AttentionInputs, Rotation
from pipelines.common.graph.rules import TYPED, Emitter
from pipelines.common.ort.emit import FLOAT, ONNX_TYPES

_MASK = "mask"
"""Name of the input with what each token sees."""

PADDING = "padding"
"""Name of the input ``[batch, 1, 1, sequence]`` that is `MASKED` where no text has a token."""

MASKED = -1e4
"""What is added to a score that has no say: softmax makes it 0, and float16 holds it."""


def rms_norm(op: Emitter, x: Any, weight: Any, epsilon: Any) -> Any:
    """`RMSNorm`; the mean is computed in float32."""
    scale = op.weight(weight, op.activations.name, (op.width(x),), op.activations)
    narrow = op.activations != np.float32
    wide = op.Cast(x, to=FLOAT, _domain=TYPED) if narrow else x
    mean = op.ReduceMean(op.Mul(wide, wide), op.Constant(value_ints=[-1]))
    shifted = op.Add(mean, op.Constant(value_float=epsilon.as_float(), _domain=TYPED))
    normal = op.Div(wide, op.Sqrt(shifted))
    if narrow:
        normal = op.Cast(normal, to=ONNX_TYPES[op.activations.name])
    return op.Mul(normal, scale)


def silu(op: Emitter, x: Any) -> Any:
    """`SiLU`."""
    return op.Mul(x, op.Sigmoid(x))


def select(op: Emitter, x: Any, wanted: Any) -> Any:  # noqa: ARG001 - it comes in as `chosen`
    """`Select`, a product with rows that each have a single 1."""
    return op.MatMul(op.input("chosen", op.activations, ("batch", "wanted", "sequence")), x)


def rope(
    op: Emitter,
    x: Any,
    past: Any,  # noqa: ARG001 - cosines and sines come in by token
    head_dim: Any,
    rotation: Rotation,
) -> Any:
    """`RoPE`: ``x cos + (x R) sin``, where R swaps the elements of each pair and negates one."""
    import onnx_ir as ir

    size, dims = head_dim.as_int(), 2 * op.width(rotation.cos)
    pairing = "interleaved" if rotation.interleaved.as_int() else "halves"
    shape = ("batch", "sequence", 1, dims)
    cosines = op.input(f"{rotation.cos.name}_{pairing}", op.activations, shape)
    sines = op.input(f"{rotation.sin.name}_{pairing}", op.activations, shape)
    swap = op.Constant(value=ir.tensor(_swap(dims, pairing).astype(op.activations)))
    heads = op.Reshape(x, op.Constant(value_ints=[0, 0, -1, size]))
    rotated = heads if dims == size else _elements(op, heads, 0, dims)
    turned = op.Add(op.Mul(rotated, cosines), op.Mul(op.MatMul(rotated, swap), sines))
    if dims < size:
        turned = op.Concat(turned, _elements(op, heads, dims, size), axis=3)
    return op.Reshape(turned, op.Constant(value_ints=[0, 0, op.width(x)]))


def _elements(op: Emitter, heads: Any, first: int, last: int) -> Any:
    """A part of each head ``[batch, sequence, heads, head_dim]``."""
    places = (op.Constant(value_ints=[place]) for place in (first, last, 3))
    return op.Slice(heads, *places)


def attention(
    op: Emitter, inputs: AttentionInputs, *, constant: bool = False
) -> tuple[Any, Any, Any]:
    """`Attention`; the queries that share a head of keys are rows of one product.

    What a call writes and sees comes in as ``place`` and ``mask``; the mask of a window has it in
    its name: ``mask_512``. `constant` says whether its sinks are constants.
    """
    size, value_size = inputs.head_dim.as_int(), inputs.value_size
    heads, kv_heads = op.width(inputs.query) // size, op.width(inputs.key) // size
    new_key = _written(op, inputs.past_key, inputs.key, size)
    new_value = _written(op, inputs.past_value, inputs.value, value_size)

    # Scaled before the product: scores may be beyond what float16 holds.
    scale = op.Constant(value_float=inputs.scale.as_float())
    queries = op.Mul(_by_head(op, inputs.query, size), scale)
    queries = op.Reshape(queries, op.Constant(value_ints=[0, kv_heads, -1, size]))
    scores = op.MatMul(queries, op.Transpose(new_key, perm=[0, 1, 3, 2]))
    if cap := inputs.cap.as_float():
        scores = capped(op, scores, cap)
    window = inputs.window.as_int()
    name = f"{_MASK}_{window}" if window else _MASK
    mask = op.input(name, op.activations, ("batch", 1, "sequence", "capacity"))
    if heads > kv_heads:
        mask = op.Concat(*[mask] * (heads // kv_heads), axis=2)
    weights = shares(op, op.Add(scores, mask), inputs.sinks, heads // kv_heads, constant=constant)
    mixed = op.MatMul(weights, new_value)
    mixed = op.Reshape(mixed, op.Constant(value_ints=[0, heads, -1, value_size]))
    mixed = op.Transpose(mixed, perm=[0, 2, 1, 3])
    return op.Reshape(mixed, op.Constant(value_ints=[0, 0, heads * value_size])), new_key, new_value


def self_attention(
    op: Emitter,
    query: Any,
    key: Any,
    value: Any,
    head_dim: Any,
    scale: Any,
    *,
    padded: bool = False,
) -> Any:
    """`SelfAttention`; where texts are padded, `PADDING` says how far."""
    size, width = head_dim.as_int(), op.width(query)
    factor = op.Constant(value_float=scale.as_float())
    keys = op.Transpose(_by_head(op, key, size), perm=[0, 1, 3, 2])
    scores = op.MatMul(op.Mul(_by_head(op, query, size), factor), keys)
    if padded:
        scores = op.Add(scores, op.input(PADDING, op.activations, ("batch", 1, 1, "sequence")))
    mixed = op.MatMul(op.Softmax(scores, axis=-1), _by_head(op, value, size))
    mixed = op.Transpose(mixed, perm=[0, 2, 1, 3])
    return op.Reshape(mixed, op.Constant(value_ints=[0, 0, width]))


def capped(op: Emitter, scores: Any, cap: float) -> Any:
    """Scores that come near a cap and never reach it."""
    limit = op.Constant(value_float=cap)
    return op.Mul(op.Tanh(op.Div(scores, limit)), limit)


def shares(op: Emitter, scores: Any, sinks: Any, group: int, *, constant: bool = False) -> Any:
    """The softmax of scores ``[batch, kv_heads, group * sequence, keys]``.

    Args:
        op: Makes the nodes.
        scores: The scores; what is not seen has one so low that its share is 0.
        sinks: See `AttentionInputs`.
        group: Heads of queries that share one of keys; the rows of one stand after another's.
        constant: Whether the sinks are a constant.
    """
    if sinks is None:
        return op.Softmax(scores, axis=-1)
    kind, heads = op.activations, op.width(sinks)
    weight = op.weight(sinks, kind.name, (heads,), kind, constant=constant)
    # Two numbers of each row are what its shares and the sink's are relative to, and their sum.
    by_group = op.Reshape(weight, op.Constant(value_ints=[1, heads // group, group, 1]))
    rows = op.Constant(value_ints=[0, heads // group, group, -1])
    top = op.ReduceMax(scores, op.Constant(value_ints=[-1]))
    top = op.Max(op.Reshape(top, rows), by_group)
    column = op.Constant(value_ints=[0, heads // group, -1, 1])
    lowered = op.Exp(op.Sub(scores, op.Reshape(top, column)))
    total = op.ReduceSum(lowered, op.Constant(value_ints=[-1]))
    total = op.Add(op.Reshape(total, rows), op.Exp(op.Sub(by_group, top)))
    return op.Div(lowered, op.Reshape(total, column))


def feeds(
    names: Collection[str],
    past: NDArray[np.integer[Any]],
    lengths: NDArray[np.integer[Any]],
    sequence: int,
    capacity: int,
    wanted: NDArray[np.integer[Any]],
    tables: Mapping[str, NDArray[np.floating[Any]]],
    dtype: DTypeLike,
) -> dict[str, NDArray[Any]]:
    """What a call feeds to the inputs that the functions above have made.

    Rows are padded on the right: padding is not written into the state.

    Args:
        names: Names of the graph's inputs; what is not among them is left out.
        past: Tokens in each row's state before the call, ``[batch]``.
        lengths: Tokens that the call appends to each, ``[batch]``, at most `sequence`.
        sequence: Tokens of the longest row, or more.
        capacity: Tokens that the state has room for.
        wanted: Places in the sequence whose vectors are wanted, ``[batch, wanted]``.
        tables: Cosines and sines of rotary angles, ``[positions, dims / 2]``, by name.
        dtype: The type of the activations.

    Returns:
        ``keep`` ``[batch, 1, capacity, 1]``, 0 where the call writes and 1 elsewhere; ``place``
        ``[batch, 1, capacity, sequence]``, 1 where a token is written; ``mask``
        ``[batch, 1, sequence, capacity]``, `MASKED` where a token does not look, and likewise
        ``mask_N`` where it sees N tokens at most; ``chosen``
        ``[batch, wanted, sequence]``, 1 at the places wanted; and of each table two,
        ``cos_interleaved`` and ``cos_halves`` ``[batch, sequence, 1, dims]``.
    """
    tokens, slots = np.arange(sequence), np.arange(capacity)
    position = past[:, None] + tokens
    total = (past + lengths)[:, None]
    written = np.where(position < total, position, -1)
    place = slots[:, None] == written[:, None, None]
    seen = slots < np.minimum(position + 1, total)[:, None, :, None]
    windows = {name: int(name.rpartition("_")[2]) for name in names if name.startswith(f"{_MASK}_")}
    made: dict[str, NDArray[Any]] = {
        **{
            name: np.where(seen & (slots > position[:, None, :, None] - window), 0, MASKED)
            for name, window in windows.items()
        },
        "keep": ~place.any(-1, keepdims=True),
        "place": place,
        "mask": np.where(seen, 0, MASKED),
        "chosen": wanted[..., None] == tokens,
    }
    for name, table in tables.items():
        # Padding may stand beyond the last position; what it becomes has no meaning.
        rows = table[np.minimum(position, len(table) - 1)][:, :, None]
        made[f"{name}_interleaved"] = np.repeat(rows, 2, -1)
        made[f"{name}_halves"] = np.concatenate([rows, rows], -1)
    return {name: array.astype(dtype) for name, array in made.items() if name in names}


def _swap(size: int, pairing: str) -> NDArray[np.int8]:
    """A signed permutation R: of each pair ``(a, b)`` of ``x``, ``x R`` makes ``(-b, a)``."""
    elements = np.arange(size)
    first, second = (
        elements.reshape(-1, 2).T if pairing == "interleaved" else elements.reshape(2, -1)
    )
    matrix = np.zeros((size, size), np.int8)
    matrix[second, first] = -1
    matrix[first, second] = 1
    return matrix


def _by_head(op: Emitter, x: Any, size: int) -> Any:
    """``[batch, sequence, heads * head_dim]`` to ``[batch, heads, sequence, head_dim]``."""
    heads = op.Reshape(x, op.Constant(value_ints=[0, 0, op.width(x) // size, size]))
    return op.Transpose(heads, perm=[0, 2, 1, 3])


def _written(op: Emitter, past: Any, new: Any, size: int) -> Any:
    """A half of the state with a call's keys or values in their places, to the bit."""
    past = op.keep_state_in(past, op.activations)
    keep = op.input("keep", op.activations, ("batch", 1, "capacity", 1))
    place = op.input("place", op.activations, ("batch", 1, "capacity", "sequence"))
    return op.Add(op.Mul(past, keep), op.MatMul(place, _by_head(op, new, size)))
