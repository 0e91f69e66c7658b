"""What targets on ONNX Runtime emit for the neutral operators, in the type of the activations.

`com.microsoft` operators: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from pipelines.common.encodings import ENCODINGS
from pipelines.common.encodings.encoding import Coded
from pipelines.common.graph.patterns import AttentionInputs, Rotation
from pipelines.common.graph.rules import Emitter

MICROSOFT = "com.microsoft"

FLOAT, INT32, INT64, FLOAT16, BFLOAT16 = 1, 6, 7, 10, 16
"""`onnx.TensorProto` element types."""

ONNX_TYPES = {"float32": FLOAT, "float16": FLOAT16, "bfloat16": BFLOAT16}
"""Those that activations can have, by name."""

Lengths: TypeAlias = Callable[[Emitter, Any, Any], tuple[Any, Any]]
"""Makes what GroupQueryAttention wants of a call's lengths.

Of `Attention`'s total ``[batch]`` and of its half of the state it makes the place of each row's
last token, ``[batch]`` int32, and the length of the longest row or a bound of it, a scalar.
"""


def coded(op: Emitter, weight: Any) -> Coded:
    """How the codes and scales of a weight in blocks are laid out."""
    result = ENCODINGS[op.encoding(weight)].coded
    assert result is not None, "the rule takes weights in blocks only"
    return result


def block_product(
    op: Emitter, x: Any, weight: Any, *, constant: bool = True, **attributes: int
) -> Any:
    """`Linear` with a weight in blocks; as constants, the runtime can pack codes and scales."""
    form = coded(op, weight)
    bits, block = form.bits, form.group
    rows, width = op.shape(weight)
    return op.MatMulNBits(
        x,
        op.weight(
            weight,
            "codes",
            (rows, width // block, block * bits // 8),
            np.uint8,
            constant=constant,
        ),
        op.weight(weight, "scales", (rows, width // block), op.activations, constant=constant),
        K=width,
        N=rows,
        bits=bits,
        block_size=block,
        **attributes,
        _domain=MICROSOFT,
    )


def offset_product(op: Emitter, x: Any, weight: Any) -> Any:
    """What `block_product` leaves out of formats with offsets: those times activations' sums."""
    group = coded(op, weight).group
    rows, width = op.shape(weight)
    blocks = op.Reshape(x, op.Constant(value_ints=[0, 0, -1, group]))
    sums = op.ReduceSum(blocks, op.Constant(value_ints=[-1]), keepdims=0)
    shape = (rows, width // group)
    offsets = op.weight(weight, "offsets", shape, op.activations, constant=False)
    return op.FusedMatMul(sums, offsets, transB=1, _domain=MICROSOFT)


def float_product(op: Emitter, x: Any, weight: Any) -> Any:
    """`Linear` with a weight in the type of the activations."""
    # As an input it stays in the mapped file: the product would copy a constant into a packed form.
    matrix = op.weight(
        weight, op.activations.name, op.shape(weight), op.activations, constant=False
    )
    return op.FusedMatMul(x, matrix, transB=1, _domain=MICROSOFT)


def block_rows(op: Emitter, tokens: Any, weight: Any, *, constant: bool = True) -> Any:
    """`Embedding` with a weight in blocks."""
    form = coded(op, weight)
    bits, block = form.bits, form.group
    rows, width = op.shape(weight)
    return op.GatherBlockQuantized(
        op.weight(weight, "codes_by_row", (rows, width * bits // 8), np.uint8, constant=constant),
        tokens,
        op.weight(weight, "scales", (rows, width // block), op.activations, constant=constant),
        bits=bits,
        block_size=block,
        gather_axis=0,
        quantize_axis=1,
        _domain=MICROSOFT,
    )


def float_rows(op: Emitter, tokens: Any, weight: Any) -> Any:
    """`Embedding` with a weight in float16, as it is stored, or in the type of the activations."""
    stored = ENCODINGS[op.encoding(weight)].element
    kind = np.dtype(np.float16) if stored == "float16" else op.activations
    table = op.weight(weight, kind.name, op.shape(weight), kind, constant=False)
    rows = op.Gather(table, tokens)
    if kind == op.activations:
        return rows
    return op.Cast(rows, to=ONNX_TYPES[op.activations.name])


def rms_norm(op: Emitter, x: Any, weight: Any, epsilon: Any, *, constant: bool = True) -> Any:
    """`RMSNorm`; the mean is computed in float32."""
    scale = norm_weight(op, x, weight, constant=constant)
    return op.SimplifiedLayerNormalization(x, scale, axis=-1, epsilon=epsilon.as_float())


def norm_weight(op: Emitter, x: Any, weight: Any, *, constant: bool = True) -> Any:
    """What a norm multiplies the elements of `x` by, or adds to them."""
    kind = op.activations
    return op.weight(weight, kind.name, (op.width(x),), kind, constant=constant)


def silu(op: Emitter, x: Any) -> Any:
    """`SiLU`."""
    return op.QuickGelu(x, alpha=1.0, _domain=MICROSOFT)


def gelu(op: Emitter, x: Any, tanh: Any) -> Any:
    """`GELU`."""
    return op.Gelu(x, approximate="tanh" if tanh.as_int() else "none")


def layer_norm(
    op: Emitter, x: Any, weight: Any, bias: Any, epsilon: Any, *, constant: bool = True
) -> Any:
    """`LayerNorm`."""
    vectors = (norm_weight(op, x, vector, constant=constant) for vector in (weight, bias))
    return op.LayerNormalization(x, *vectors, axis=-1, epsilon=epsilon.as_float())


def select(op: Emitter, x: Any, wanted: Any) -> Any:
    """`Select`."""
    return op.GatherND(x, op.Unsqueeze(wanted, op.Constant(value_ints=[-1])), batch_dims=1)


def rope(op: Emitter, x: Any, past: Any, head_dim: Any, rotation: Rotation) -> Any:
    """`RoPE`."""
    length = op.Shape(x, start=1, end=2)
    offsets = op.Range(op.Constant(value_int=0), op.Squeeze(length), op.Constant(value_int=1))
    positions = op.Add(op.Unsqueeze(op.Cast(past, to=INT64), op.Constant(value_ints=[1])), offsets)
    dims = 2 * op.width(rotation.cos)
    return op.RotaryEmbedding(
        x,
        positions,
        *_tables(op, rotation),
        interleaved=rotation.interleaved.as_int(),
        rotary_embedding_dim=0 if dims == head_dim.as_int() else dims,
        num_heads=op.width(x) // head_dim.as_int(),
        _domain=MICROSOFT,
    )


def attention(
    op: Emitter,
    inputs: AttentionInputs,
    rotation: Rotation | None = None,
    *,
    lengths: Lengths,
) -> Any:
    """`Attention`, with `RoPE` before it if there is a rotation; None if the operator cannot.

    The state has the type of the activations; `lengths` makes what the operator wants of a call's.
    """
    # Source: onnxruntime/contrib_ops/cpu/bert/group_query_attention_helper.h
    size = inputs.head_dim.as_int()
    if size % (8 if rotation is None else 16) or inputs.value_size != size:
        return None
    if rotation is not None and 2 * op.width(rotation.cos) != size:
        return None  # a part of each head is rotated, which `rope` does
    rotary: tuple[Any, ...] = ()
    attributes = {"do_rotary": 0}
    if rotation is not None:
        rotary = _tables(op, rotation)
        attributes = {"do_rotary": 1, "rotary_interleaved": rotation.interleaved.as_int()}
    sinks: tuple[Any, ...] = ()
    if inputs.sinks is not None:
        kind = op.activations
        weight = op.weight(inputs.sinks, kind.name, (op.width(inputs.sinks),), kind, constant=False)
        # Before it stand the tables, and places and a bias of the scores, which nobody needs here.
        sinks = (*(None,) * (4 - len(rotary)), weight)
    halves = (inputs.past_key, inputs.past_value)
    return op.GroupQueryAttention(
        inputs.query,
        inputs.key,
        inputs.value,
        *(op.keep_state_in(half, op.activations) for half in halves),
        *lengths(op, inputs.total, inputs.past_key),
        *rotary,
        *sinks,
        num_heads=op.width(inputs.query) // size,
        kv_num_heads=op.width(inputs.key) // size,
        scale=inputs.scale.as_float(),
        local_window_size=inputs.window.as_int() or -1,
        softcap=inputs.cap.as_float(),
        **attributes,
        _domain=MICROSOFT,
        _outputs=3,
    )


def _tables(op: Emitter, rotation: Rotation) -> tuple[Any, ...]:
    """Cosines and sines in the type of the activations."""
    return tuple(op.supply_in(table, op.activations) for table in (rotation.cos, rotation.sin))
