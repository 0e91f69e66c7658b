"""What the native kernels take: products with stored weights, lookups, attention, and fusions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pipelines.common.graph import patterns
from pipelines.common.graph.rules import Emitter, Rule
from pipelines.common.op_packages.package import OpPackage
from pipelines.common.weights.encodings import ENCODINGS

DOMAIN = "pipelines.native"

BLOCKS = ("q4_0", "q4_1", "q8_0", "q6_k")
FLOATS = ("f32", "f16")
STORED = (*BLOCKS, *FLOATS)

INT8 = 0.02
"""Activations are rounded to int8 in blocks of 32, which costs about this much of the largest value."""


def _stored(op: Emitter, weight: Any) -> Any:
    """The bytes of the file, which a kernel finds when it is made."""
    rows, columns = op.shape(weight)
    encoding = ENCODINGS[op.encoding(weight)]
    return op.weight(weight, "stored", (rows, encoding.row_bytes(columns)), np.uint8)


def _linear(
    op: Emitter,
    x: Any,
    weights: Sequence[Any],
    *,
    norm: Any = None,
    epsilon: Any = None,
    residual: Any = None,
    gated: bool = False,
) -> Any:
    extra = []
    if norm is not None:
        extra.append(op.weight(norm, "float32", (op.width(x),)))
    if residual is not None:
        extra.append(residual)
    numbers = {f"encoding_{i}": _number(op, weight) for i, weight in enumerate(weights)}
    return op.Linear(
        x,
        *(_stored(op, weight) for weight in weights),
        *extra,
        columns=op.shape(weights[0])[1],
        weights=len(weights),
        norm=int(norm is not None),
        epsilon=0.0 if epsilon is None else epsilon.as_float(),
        residual=int(residual is not None),
        gated=int(gated),
        **numbers,
        _domain=DOMAIN,
        _outputs=1 if gated else len(weights),
    )


def _number(op: Emitter, weight: Any) -> int:
    return ENCODINGS[op.encoding(weight)].ggml_type


def _emit_linear(op: Emitter, x: Any, weight: Any) -> Any:
    return _linear(op, x, [weight])


def _norm_linear(op: Any, x: Any, norm: Any, epsilon: Any, weight: Any) -> Any:
    return op.Linear(op.RMSNorm(x, norm, epsilon=epsilon), weight)


def _emit_norm_linear(op: Emitter, x: Any, norm: Any, epsilon: Any, weight: Any) -> Any:
    return _linear(op, x, [weight], norm=norm, epsilon=epsilon)


def _linear_add(op: Any, residual: Any, x: Any, weight: Any) -> Any:
    return op.Add(residual, op.Linear(x, weight))


def _emit_linear_add(op: Emitter, residual: Any, x: Any, weight: Any) -> Any:
    return _linear(op, x, [weight], residual=residual)


def _gated(op: Any, x: Any, gate: Any, up: Any) -> Any:
    return op.Mul(op.SiLU(op.Linear(x, gate)), op.Linear(x, up))


def _emit_gated(op: Emitter, x: Any, gate: Any, up: Any) -> Any:
    return _linear(op, x, [gate, up], gated=True)


def _norm_gated(op: Any, x: Any, norm: Any, epsilon: Any, gate: Any, up: Any) -> Any:
    return _gated(op, op.RMSNorm(x, norm, epsilon=epsilon), gate, up)


def _emit_norm_gated(op: Emitter, x: Any, norm: Any, epsilon: Any, gate: Any, up: Any) -> Any:
    return _linear(op, x, [gate, up], norm=norm, epsilon=epsilon, gated=True)


def _norm_rope_attention(
    op: Any,
    x: Any,
    norm: Any,
    epsilon: Any,
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
    x = op.RMSNorm(x, norm, epsilon=epsilon)
    projected = (op.Linear(x, weight) for weight in (query, key, value))
    state = (past_key, past_value, past, total)
    return patterns.rope_attention(op, *projected, *state, cos, sin, head_dim, scale, interleaved)


def _emit_norm_rope_attention(
    op: Emitter, x: Any, norm: Any, epsilon: Any, query: Any, key: Any, value: Any, **rest: Any
) -> Any:
    projected = _linear(op, x, [query, key, value], norm=norm, epsilon=epsilon)
    return _emit_rope_attention(op, *projected, **rest)


def _emit_rope_attention(
    op: Emitter,
    query: Any,
    key: Any,
    value: Any,
    past_key: Any,
    past_value: Any,
    past: Any,
    total: Any,
    cos: Any,
    sin: Any,
    **attributes: Any,
) -> Any:
    heads = (query, key, value)
    return _attention(op, heads, (past_key, past_value), (past, total, cos, sin), **attributes)


def _emit_attention(
    op: Emitter,
    query: Any,
    key: Any,
    value: Any,
    past_key: Any,
    past_value: Any,
    past: Any,
    total: Any,
    **attributes: Any,
) -> Any:
    return _attention(op, (query, key, value), (past_key, past_value), (past, total), **attributes)


def _attention(
    op: Emitter,
    heads: Sequence[Any],
    state: Sequence[Any],
    rest: Sequence[Any],
    *,
    head_dim: Any,
    scale: Any,
    interleaved: Any = None,
) -> Any:
    # Where weights are rounded to blocks, a state in float16 costs nothing that could be noticed.
    # Where they are not, results are exact to float32, and so is the state.
    half = not op.encodings().isdisjoint(BLOCKS)
    dtype = np.float16 if half else np.float32
    name = ("Attention" if interleaved is None else "RotaryAttention") + "Float32" * (not half)
    return getattr(op, name)(
        *heads,
        *(op.keep_state_in(part, dtype) for part in state),
        *rest,
        head_dim=head_dim.as_int(),
        scale=scale.as_float(),
        interleaved=0 if interleaved is None else interleaved.as_int(),
        _domain=DOMAIN,
        _outputs=3,
    )


def _emit_rows(op: Emitter, tokens: Any, weight: Any) -> Any:
    columns = op.shape(weight)[1]
    return op.Embedding(
        tokens, _stored(op, weight), encoding=_number(op, weight), columns=columns, _domain=DOMAIN
    )


def _both(encoding: str) -> dict[str, tuple[str, ...]]:
    return {"gate": (encoding,), "up": (encoding,)}


_PROJECTED = {name: STORED for name in ("query", "key", "value")}

PACKAGE = OpPackage(
    summary="CPU kernels over the weights as GGUF files hold them, at the speed of the memory.",
    rules={
        "cpu": (
            Rule(
                "norm, projections and attention",
                _norm_rope_attention,
                _emit_norm_rope_attention,
                _PROJECTED,
                tolerance=INT8,
            ),
            Rule("attention with rotation", patterns.rope_attention, _emit_rope_attention),
            Rule("attention", patterns.attention, _emit_attention),
            *(
                Rule(name, pattern, emit, _both(encoding), tolerance=INT8)
                for name, pattern, emit in (
                    ("norm and gated product", _norm_gated, _emit_norm_gated),
                    ("gated product", _gated, _emit_gated),
                )
                for encoding in BLOCKS
            ),
            Rule(
                "product and residual",
                _linear_add,
                _emit_linear_add,
                {"weight": STORED},
                tolerance=INT8,
            ),
            Rule(
                "norm and product",
                _norm_linear,
                _emit_norm_linear,
                {"weight": STORED},
                tolerance=INT8,
            ),
            Rule("product", patterns.linear, _emit_linear, {"weight": STORED}, tolerance=INT8),
            Rule("rows", patterns.embedding, _emit_rows, {"weight": STORED}),
        ),
    },
)
