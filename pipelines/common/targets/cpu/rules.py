"""How the neutral operators become ONNX Runtime's operators for the CPU."""

from __future__ import annotations

from functools import partial
from typing import Any

from pipelines.common.encodings import FLOATS, WITH_OFFSETS, WITHOUT_OFFSETS
from pipelines.common.graph import patterns
from pipelines.common.graph.rules import COMPUTED, Emitter, Rule
from pipelines.common.ort import arithmetic, emit, experts
from pipelines.common.targets.cpu.attention import attention


def _block_product(op: Emitter, x: Any, weight: Any) -> Any:
    # Activations in int8, a scale a block; in float32 it would take 4 to 180 times as long.
    return emit.block_product(op, x, weight, accuracy_level=4)


def _block_product_with_offsets(op: Emitter, x: Any, weight: Any) -> Any:
    return op.Add(_block_product(op, x, weight), emit.offset_product(op, x, weight))


def _block_rows_with_offsets(op: Emitter, tokens: Any, weight: Any) -> Any:
    group = emit.coded(op, weight).group
    rows, width = op.shape(weight)
    offsets = op.weight(weight, "offsets", (rows, width // group), constant=False)
    by_group = op.Constant(value_ints=[0, 0, -1, group])
    blocks = op.Reshape(emit.block_rows(op, tokens, weight), by_group)
    shifted = op.Add(blocks, op.Unsqueeze(op.Gather(offsets, tokens), op.Constant(value_ints=[-1])))
    return op.Reshape(shifted, op.Constant(value_ints=[0, 0, -1]))


def _lengths(op: Emitter, total: Any, _half: Any) -> tuple[Any, Any]:
    last = op.Sub(total, op.Cast(op.Constant(value_int=1), to=emit.INT32))
    return last, op.ReduceMax(total, keepdims=0)


_grouped = partial(emit.attention, lengths=_lengths)

RULES: tuple[Rule, ...] = (
    *experts.RULES,
    Rule("MatMulNBits", patterns.linear, _block_product, {"weight": WITHOUT_OFFSETS}),
    Rule(
        "MatMulNBits with offsets",
        patterns.linear,
        _block_product_with_offsets,
        {"weight": WITH_OFFSETS},
    ),
    Rule("FusedMatMul", patterns.linear, emit.float_product, {"weight": FLOATS}),
    Rule("GatherBlockQuantized", patterns.embedding, emit.block_rows, {"weight": WITHOUT_OFFSETS}),
    Rule(
        "GatherBlockQuantized with offsets",
        patterns.embedding,
        _block_rows_with_offsets,
        {"weight": WITH_OFFSETS},
    ),
    Rule("Gather", patterns.embedding, emit.float_rows, {"weight": FLOATS}),
    Rule(
        "SimplifiedLayerNormalization",
        patterns.rms_norm,
        emit.rms_norm,
        {"weight": ("f32", COMPUTED)},
        batch_invariant=True,
    ),
    Rule(
        "LayerNormalization",
        patterns.layer_norm,
        emit.layer_norm,
        {"weight": ("f32", COMPUTED), "bias": ("f32", COMPUTED)},
        batch_invariant=True,
    ),
    Rule("QuickGelu", patterns.silu, emit.silu, batch_invariant=True),
    Rule("Gelu", patterns.gelu, emit.gelu, batch_invariant=True),
    Rule("GatherND", patterns.select, emit.select, batch_invariant=True),
    Rule("GroupQueryAttention with rotation", patterns.rope_attention, _grouped),
    Rule("GroupQueryAttention", patterns.attention, _grouped),
    Rule("attention in standard operators", patterns.attention, attention),
    Rule("RotaryEmbedding", patterns.rope, emit.rope),
    Rule("SelfAttention in arithmetic", patterns.self_attention, arithmetic.self_attention),
)
