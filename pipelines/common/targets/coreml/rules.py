"""How the neutral operators become standard operators that Core ML has."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from pipelines.common.encodings import ENCODINGS
from pipelines.common.graph import patterns
from pipelines.common.graph.rules import COMPUTED, Emitter, Rule
from pipelines.common.ort import arithmetic, emit, experts
from pipelines.common.targets.coreml.layouts import parts


def embedded(ids: str, parameter: str) -> str:
    """The graph's input for rows of a table, ``[batch, sequence, width]``.

    Args:
        ids: Name of the input that says which rows.
        parameter: The table.
    """
    return f"{parameter}.{ids}"


def _product(op: Emitter, x: Any, weight: Any) -> Any:
    """`Linear`; one that is too wide gives ``[parts, wanted, columns]``, which the runner joins."""
    # The constant of a MatMul goes to Core ML's file of weights; that of a Gemm would be text.
    rows, width = op.shape(weight)
    count, columns = parts(rows)
    shape = (width, columns) if count == 1 else (count, width, columns)
    return op.MatMul(x, op.weight(weight, "transposed", shape, op.activations))


def _outside(op: Emitter, tokens: Any, weight: Any) -> Any:
    """`Embedding` of what the network takes; the table stays with the runner."""
    if not tokens.is_graph_input():
        return None
    rows, width = op.shape(weight)
    encoding = ENCODINGS[op.encoding(weight)]
    op.host_weight(weight, "stored", (rows, encoding.row_bytes(width)), np.uint8)
    # An input cannot stand for a node's result by itself: it would be renamed to that.
    name = embedded(tokens.name, weight.name)
    return op.Identity(op.input(name, op.activations, (*tokens.shape, width)))


RULES: tuple[Rule, ...] = (
    *experts.RULES,
    Rule("MatMul", patterns.linear, _product, {"weight": tuple(ENCODINGS)}),
    Rule("input", patterns.embedding, _outside, {"weight": tuple(ENCODINGS)}),
    Rule(
        "RMSNorm in arithmetic",
        patterns.rms_norm,
        arithmetic.rms_norm,
        {"weight": ("f32", COMPUTED)},
    ),
    Rule(
        "LayerNormalization",
        patterns.layer_norm,
        emit.layer_norm,
        {"weight": ("f32", COMPUTED), "bias": ("f32", COMPUTED)},
    ),
    Rule("SiLU in arithmetic", patterns.silu, arithmetic.silu),
    Rule("Gelu", patterns.gelu, emit.gelu),
    Rule("Select in arithmetic", patterns.select, arithmetic.select),
    Rule("RoPE in arithmetic", patterns.rope, arithmetic.rope),
    Rule(
        "SelfAttention in arithmetic",
        patterns.self_attention,
        partial(arithmetic.self_attention, padded=True),
    ),
    Rule(
        "Attention in arithmetic",
        patterns.attention,
        partial(arithmetic.attention, constant=True),
    ),
)
