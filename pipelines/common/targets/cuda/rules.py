"""How the neutral operators become those of ONNX Runtime's CUDA provider.

Weights are inputs of the graph, so that several sessions can share what is on the device.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from typing import Any

import numpy as np

from pipelines.common.encodings import ENCODINGS, FLOATS, WITH_OFFSETS, WITHOUT_OFFSETS
from pipelines.common.graph import patterns
from pipelines.common.graph.rules import COMPUTED, Emitter, Rule
from pipelines.common.ort import arithmetic, emit, experts

LAST = "last"
"""Input that the runner feeds: the place of each row's last token, ``[batch]`` int32."""

ROWS = "rows"
"""Input that the runner feeds: `wanted`, counted through all rows of the batch.

That is ``wanted + row * sequence``, ``[batch, wanted]`` int64.
"""

ARITHMETIC_ATTENTION = "attention in arithmetic"
"""The rule for attention that computes the scores of all pairs of tokens."""


def activation_type(encodings: Collection[str]) -> str:
    """The type of the activations of a network whose weights run in these encodings.

    Float16 has the scales of block formats exactly. A network in bfloat16 may have values that
    float16 has no room for.
    """
    elements = {ENCODINGS[name].element for name in encodings}
    if elements <= {"float32"}:
        return "float32"
    return "bfloat16" if "bfloat16" in elements else "float16"


def rules(activations: str, *, packed: bool) -> tuple[Rule, ...]:
    """The target's rules.

    Args:
        activations: The type of the activations.
        packed: Whether weights in blocks of 32 are constants, which the runtime packs for its fused
            kernels (``ep.cuda.fpa_intb_gemm``).
    """
    product = partial(_block_product, packed=packed)
    with_offsets = partial(_block_product_with_offsets, packed=packed)
    name = f"{'packed ' * packed}MatMulNBits"  # cached graphs are told apart by the rules' names
    return (
        *experts.RULES,
        Rule(name, patterns.linear, product, {"weight": WITHOUT_OFFSETS}),
        Rule(f"{name} with offsets", patterns.linear, with_offsets, {"weight": WITH_OFFSETS}),
        Rule("FusedMatMul", patterns.linear, emit.float_product, {"weight": FLOATS}),
        Rule("GatherBlockQuantized", patterns.embedding, _block_rows, {"weight": WITHOUT_OFFSETS}),
        Rule("Gather", patterns.embedding, emit.float_rows, {"weight": (*FLOATS, *WITH_OFFSETS)}),
        Rule(
            "SkipSimplifiedLayerNormalization",
            _residual_norm_pattern,
            _residual_norm,
            {"weight": ("f32", COMPUTED)},
        ),
        Rule(
            "SimplifiedLayerNormalization",
            patterns.rms_norm,
            _rms_norm,
            {"weight": ("f32", COMPUTED)},
        ),
        Rule(
            "LayerNormalization",
            patterns.layer_norm,
            partial(emit.layer_norm, constant=False),
            {"weight": ("f32", COMPUTED), "bias": ("f32", COMPUTED)},
        ),
        Rule("QuickGelu", patterns.silu, emit.silu),
        Rule("Gelu", patterns.gelu, emit.gelu),
        Rule("Gather of rows", patterns.select, _select),
        Rule("SelfAttention in arithmetic", patterns.self_attention, arithmetic.self_attention),
        # The provider has no GroupQueryAttention in float32.
        *(() if activations == "float32" else _GROUPED_ATTENTION),
        Rule(ARITHMETIC_ATTENTION, patterns.attention, arithmetic.attention),
        Rule("rotation in arithmetic", patterns.rope, arithmetic.rope),
    )


def _block_product(op: Emitter, x: Any, weight: Any, *, packed: bool) -> Any:
    constant = packed and emit.coded(op, weight).group == 32
    return emit.block_product(op, x, weight, constant=constant)


def _block_product_with_offsets(op: Emitter, x: Any, weight: Any, *, packed: bool) -> Any:
    product = _block_product(op, x, weight, packed=packed)
    return op.Add(product, emit.offset_product(op, x, weight))


def _residual_norm_pattern(
    op: Any, x: Any, residual: Any, weight: Any, epsilon: Any
) -> tuple[Any, Any]:
    """A sum that is normalized and goes on as well."""
    total = op.Add(x, residual)
    return op.RMSNorm(total, weight, epsilon=epsilon), total


def _residual_norm(op: Emitter, x: Any, residual: Any, weight: Any, epsilon: Any) -> Any:
    if x.shape != residual.shape:
        return None  # the operator spreads neither over the other
    normalized, _, _, total = op.SkipSimplifiedLayerNormalization(
        x,
        residual,
        emit.norm_weight(op, x, weight, constant=False),
        epsilon=epsilon.as_float(),
        _domain=emit.MICROSOFT,
        _outputs=4,
    )
    return normalized, total


def _select(op: Emitter, x: Any, wanted: Any) -> Any:  # noqa: ARG001 - bound by the pattern
    # GatherND copies from the host when it is run, which a captured graph must not.
    rows = op.Reshape(x, op.Constant(value_ints=[-1, op.width(x)]))
    return op.Gather(rows, op.input(ROWS, np.int64, ("batch", "wanted")))


def _lengths(op: Emitter, _total: Any, half: Any) -> tuple[Any, Any]:
    """The last tokens' places on the device, and a bound on the host.

    The bound is the state's capacity, the same in every step: a captured graph has it for good.
    """
    capacity = op.Cast(op.Shape(half, start=2, end=3), to=emit.INT32)
    return op.input(LAST, np.int32, ("batch",)), capacity


_block_rows = partial(emit.block_rows, constant=False)
_rms_norm = partial(emit.rms_norm, constant=False)
_grouped = partial(emit.attention, lengths=_lengths)

_GROUPED_ATTENTION = (
    Rule("GroupQueryAttention with rotation", patterns.rope_attention, _grouped),
    Rule("GroupQueryAttention", patterns.attention, _grouped),
    Rule("RotaryEmbedding", patterns.rope, emit.rope),
)
