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

EMBEDDED = "embedded"
"""The graph's input for the vectors of a call's tokens, ``[batch, sequence, hidden_size]``."""


def _product(op: Emitter, x: Any, weight: Any) -> Any:
    """`Linear`; one that is too wide gives ``[parts, wanted, columns]``, which the runner joins."""
    # The constant of a MatMul goes to Core ML's file of weights; that of a Gemm would be text.
    rows, width = op.shape(weight)
    count, columns = parts(rows)
    shape = (width, columns) if count == 1 else (count, width, columns)
    return op.MatMul(x, op.weight(weight, "transposed", shape, op.activations))


def _outside(op: Emitter, tokens: Any, weight: Any) -> Any:  # noqa: ARG001 - the runner has them
    """`Embedding`, whose table stays with the runner."""
    rows, width = op.shape(weight)
    encoding = ENCODINGS[op.encoding(weight)]
    op.host_weight(weight, "stored", (rows, encoding.row_bytes(width)), np.uint8)
    # An input cannot stand for a node's result by itself: it would be renamed to that.
    return op.Identity(op.input(EMBEDDED, op.activations, ("batch", "sequence", width)))


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
    Rule("SelfAttention in arithmetic", patterns.self_attention, arithmetic.self_attention),
    Rule(
        "Attention in arithmetic",
        patterns.attention,
        partial(arithmetic.attention, constant=True),
    ),
)
