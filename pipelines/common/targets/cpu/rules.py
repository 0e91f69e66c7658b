"""How the neutral operators become ONNX Runtime's operators for the CPU.

`com.microsoft` operators: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pipelines.common.graph import patterns
from pipelines.common.graph.rules import Emitter, Rule

MICROSOFT = "com.microsoft"

FLOAT, INT32, INT64 = 1, 6, 7
"""`onnx.TensorProto` element types."""


def _quantized(op: Emitter, weight: Any) -> tuple[int, int]:
    """Bits of a code and elements that share a scale, for ONNX Runtime's operators."""
    return {"q4_0": (4, 32), "q4_1": (4, 32), "q8_0": (8, 32), "q6_k": (8, 16)}[op.encoding(weight)]


def _emit_block_product(op: Emitter, x: Any, weight: Any) -> Any:
    bits, block = _quantized(op, weight)
    rows, width = op.shape(weight)
    return op.MatMulNBits(
        x,
        op.weight(weight, "codes", (rows, width // block, block * bits // 8), np.uint8),
        op.weight(weight, "scales", (rows, width // block)),
        K=width,
        N=rows,
        bits=bits,
        block_size=block,
        accuracy_level=4,  # int8 activations, a scale a block; float32 is 4 to 180 times slower
        _domain=MICROSOFT,
    )


def _emit_block_product_with_offsets(op: Emitter, x: Any, weight: Any) -> Any:
    """What the codes leave out, an offset a block, times the sum of the block's activations."""
    rows, width = op.shape(weight)
    blocks = op.Reshape(x, op.Constant(value_ints=[0, 0, -1, 32]))
    sums = op.ReduceSum(blocks, op.Constant(value_ints=[-1]), keepdims=0)
    offsets = op.weight(weight, "offsets", (rows, width // 32), constant=False)
    return op.Add(
        _emit_block_product(op, x, weight),
        op.FusedMatMul(sums, offsets, transB=1, _domain=MICROSOFT),
    )


def _emit_float_product(op: Emitter, x: Any, weight: Any) -> Any:
    # As an input it stays in the mapped file: the product would copy a constant into a packed form.
    matrix = op.weight(weight, "float32", op.shape(weight), constant=False)
    return op.FusedMatMul(x, matrix, transB=1, _domain=MICROSOFT)


def _emit_block_rows(op: Emitter, tokens: Any, weight: Any) -> Any:
    bits, block = _quantized(op, weight)
    rows, width = op.shape(weight)
    return op.GatherBlockQuantized(
        op.weight(weight, "codes_by_row", (rows, width * bits // 8), np.uint8),
        tokens,
        op.weight(weight, "scales", (rows, width // block)),
        bits=bits,
        block_size=block,
        gather_axis=0,
        quantize_axis=1,
        _domain=MICROSOFT,
    )


def _emit_block_rows_with_offsets(op: Emitter, tokens: Any, weight: Any) -> Any:
    rows, width = op.shape(weight)
    offsets = op.weight(weight, "offsets", (rows, width // 32), constant=False)
    blocks = op.Reshape(
        _emit_block_rows(op, tokens, weight), op.Constant(value_ints=[0, 0, -1, 32])
    )
    shifted = op.Add(blocks, op.Unsqueeze(op.Gather(offsets, tokens), op.Constant(value_ints=[-1])))
    return op.Reshape(shifted, op.Constant(value_ints=[0, 0, -1]))


def _emit_float_rows(op: Emitter, tokens: Any, weight: Any) -> Any:
    return op.Gather(op.weight(weight, "float32", op.shape(weight), constant=False), tokens)


def _emit_half_rows(op: Emitter, tokens: Any, weight: Any) -> Any:
    table = op.weight(weight, "float16", op.shape(weight), np.float16, constant=False)
    return op.Cast(op.Gather(table, tokens), to=FLOAT)


def _emit_rms_norm(op: Emitter, x: Any, weight: Any, epsilon: Any) -> Any:
    scale = op.weight(weight, "float32", (op.width(x),))
    return op.SimplifiedLayerNormalization(x, scale, axis=-1, epsilon=epsilon.as_float())


def _emit_silu(op: Emitter, x: Any) -> Any:
    return op.QuickGelu(x, alpha=1.0, _domain=MICROSOFT)


def _emit_rope_attention(
    op: Emitter,
    query: Any,
    key: Any,
    value: Any,
    past_key: Any,
    past_value: Any,
    total: Any,
    cos: Any,
    sin: Any,
    interleaved: Any,
    **rest: Any,
) -> Any:
    state = (query, key, value, past_key, past_value)
    rotation = {"do_rotary": 1, "rotary_interleaved": interleaved.as_int()}
    return _grouped_query_attention(op, state, total, (cos, sin), **rotation, **rest)


def _emit_attention(
    op: Emitter,
    query: Any,
    key: Any,
    value: Any,
    past_key: Any,
    past_value: Any,
    total: Any,
    **rest: Any,
) -> Any:
    state = (query, key, value, past_key, past_value)
    return _grouped_query_attention(op, state, total, (), do_rotary=0, **rest)


def _grouped_query_attention(
    op: Emitter,
    state: Sequence[Any],
    total: Any,
    rotary: Sequence[Any],
    *,
    head_dim: Any,
    scale: Any,
    past: Any,  # noqa: ARG001 - bound by the pattern; the operator works it out from `total`
    **attributes: int,
) -> Any:
    """The fused operator, which wants the place of each row's last token and the longest row."""
    last = op.Sub(total, op.Cast(op.Constant(value_int=1), to=INT32))
    longest = op.ReduceMax(total, keepdims=0)
    query, key = state[:2]
    return op.GroupQueryAttention(
        *state,
        last,
        longest,
        *rotary,
        num_heads=op.width(query) // head_dim.as_int(),
        kv_num_heads=op.width(key) // head_dim.as_int(),
        scale=scale.as_float(),
        _domain=MICROSOFT,
        _outputs=3,
        **attributes,
    )


def _emit_rope(
    op: Emitter, x: Any, past: Any, cos: Any, sin: Any, head_dim: Any, interleaved: Any
) -> Any:
    length = op.Shape(x, start=1, end=2)
    offsets = op.Range(op.Constant(value_int=0), op.Squeeze(length), op.Constant(value_int=1))
    positions = op.Add(op.Unsqueeze(op.Cast(past, to=INT64), op.Constant(value_ints=[1])), offsets)
    return op.RotaryEmbedding(
        x,
        positions,
        cos,
        sin,
        interleaved=interleaved.as_int(),
        num_heads=op.width(x) // head_dim.as_int(),
        _domain=MICROSOFT,
    )


_BLOCKS = ("q4_0", "q8_0", "q6_k")

RULES: tuple[Rule, ...] = (
    Rule("MatMulNBits", patterns.linear, _emit_block_product, {"weight": _BLOCKS}),
    Rule(
        "MatMulNBits with offsets",
        patterns.linear,
        _emit_block_product_with_offsets,
        {"weight": ("q4_1",)},
    ),
    Rule("FusedMatMul", patterns.linear, _emit_float_product, {"weight": ("f32", "f16", "bf16")}),
    Rule("GatherBlockQuantized", patterns.embedding, _emit_block_rows, {"weight": _BLOCKS}),
    Rule(
        "GatherBlockQuantized with offsets",
        patterns.embedding,
        _emit_block_rows_with_offsets,
        {"weight": ("q4_1",)},
    ),
    Rule("Gather of float16", patterns.embedding, _emit_half_rows, {"weight": ("f16",)}),
    Rule("Gather", patterns.embedding, _emit_float_rows, {"weight": ("f32", "bf16")}),
    Rule(
        "SimplifiedLayerNormalization",
        patterns.rms_norm,
        _emit_rms_norm,
        {"weight": ("f32",)},
        batch_invariant=True,
    ),
    Rule("QuickGelu", patterns.silu, _emit_silu, batch_invariant=True),
    Rule("GroupQueryAttention with rotation", patterns.rope_attention, _emit_rope_attention),
    Rule("GroupQueryAttention", patterns.attention, _emit_attention),
    Rule("RotaryEmbedding", patterns.rope, _emit_rope),
)
