"""What the native kernels take: products with stored weights, lookups, attention, and fusions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from inspect import signature
from typing import Any

import numpy as np

from pipelines.common.encodings import BLOCKS, ENCODINGS, F32, FLOATS
from pipelines.common.graph import patterns
from pipelines.common.graph.patterns import AttentionInputs, ExpertsInputs, Rotation
from pipelines.common.graph.rules import Emitter, Rule
from pipelines.common.op_check.examples import Examples
from pipelines.common.program.package import OpPackage

from . import examples, tiles

DOMAIN = "pipelines.native"

STORED = (*BLOCKS, *FLOATS)

INT8 = 0.03
"""What it may cost, in parts of the largest value, that activations are rounded to int8."""


_ROUTINGS = ("softmax_topk", "topk_softmax", "sigmoid")
"""In the order of the kernel's numbers."""


def _stored(op: Emitter, weight: Any) -> Any:
    """The bytes of the file, which a kernel finds when it is made."""
    rows, columns = op.shape(weight)
    encoding = ENCODINGS[op.encoding(weight)]
    return op.weight(weight, "stored", (rows, encoding.row_bytes(columns)), np.uint8)


def _matrix(op: Emitter, weight: Any) -> Any:
    """What products read: tiles of block formats, and floats as the file has them."""
    if op.encoding(weight) not in BLOCKS:
        return _stored(op, weight)
    encoding = ENCODINGS[op.encoding(weight)]
    return op.weight(weight, "tiles", tiles.shape(encoding, *op.shape(weight)), np.uint8)


def _linear(
    op: Emitter,
    x: Any,
    weights: Sequence[Any],
    *,
    norm: Any = None,
    epsilon: Any = None,
    residual: Any = None,
    gated: int = 0,
) -> Any:
    extra = []
    if norm is not None:
        extra.append(op.weight(norm, "float32", (op.width(x),)))
    if residual is not None:
        extra.append(residual)
    numbers: dict[str, int] = {}
    for i, weight in enumerate(weights):
        numbers |= {f"encoding_{i}": _number(op, weight), f"rows_{i}": op.shape(weight)[0]}
    return op.Linear(
        x,
        *(_matrix(op, weight) for weight in weights),
        *extra,
        columns=op.shape(weights[0])[1],
        weights=len(weights),
        norm=int(norm is not None),
        epsilon=0.0 if epsilon is None else epsilon.as_float(),
        residual=int(residual is not None),
        gated=gated,
        **numbers,
        _domain=DOMAIN,
        _outputs=1 if gated else len(weights),
    )


def _vector(op: Emitter, weight: Any) -> Any:
    return op.weight(weight, "float32", (op.width(weight),))


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


def _is_spread(residual: Any, x: Any, weight: Any) -> bool:
    """Whether a sum spreads what is added over tokens or rows, as it does a bias."""
    if residual.shape is None or len(residual.shape) != len(x.shape):
        return True
    product = (*x.shape[:-1], weight.shape[0])
    return any(one == 1 != size for one, size in zip(residual.shape, product, strict=True))


def _emit_linear_add(op: Emitter, residual: Any, x: Any, weight: Any) -> Any:
    if _is_spread(residual, x, weight):
        return None
    return _linear(op, x, [weight], residual=residual)


@dataclass(frozen=True)
class _Gate:
    """What the gate of a gated product goes through.

    Attributes:
        number: Of it, for the kernels.
        activate: Makes its operator.
    """

    number: int
    activate: Callable[[Any, Any], Any]

    def plain(self, op: Any, x: Any, gate: Any, up: Any) -> Any:
        """The pattern of a gated product."""
        return op.Mul(self.activate(op, op.Linear(x, gate)), op.Linear(x, up))

    def normed(self, op: Any, x: Any, norm: Any, epsilon: Any, gate: Any, up: Any) -> Any:
        """The pattern of one behind a norm."""
        return self.plain(op, op.RMSNorm(x, norm, epsilon=epsilon), gate, up)

    def emit(self, op: Emitter, x: Any, gate: Any, up: Any) -> Any:
        """The kernel for `plain`."""
        return _linear(op, x, [gate, up], gated=self.number)

    def emit_normed(self, op: Emitter, x: Any, norm: Any, epsilon: Any, gate: Any, up: Any) -> Any:
        """The kernel for `normed`."""
        return _linear(op, x, [gate, up], norm=norm, epsilon=epsilon, gated=self.number)


_GATES = {
    "": _Gate(1, lambda op, x: op.SiLU(x)),
    " by GELU": _Gate(2, lambda op, x: op.GELU(x, tanh=1)),
}


def _norm_rope_attention(
    op: Any, x: Any, norm: Any, epsilon: Any, inputs: AttentionInputs, rotation: Rotation
) -> Any:
    return patterns.rope_attention(op, _projected(op, x, norm, epsilon, inputs), rotation)


def _projected(
    op: Any, x: Any, norm: Any, epsilon: Any, inputs: AttentionInputs
) -> AttentionInputs:
    """Queries, keys and values are weights here, and products with them in what follows."""
    x = op.RMSNorm(x, norm, epsilon=epsilon)
    query, key, value = (op.Linear(x, weight) for weight in _projections(inputs))
    return replace(inputs, query=query, key=key, value=value)


def _emit_norm_rope_attention(
    op: Emitter,
    x: Any,
    norm: Any,
    epsilon: Any,
    inputs: AttentionInputs,
    rotation: Rotation,
) -> Any:
    if _is_partial(op, inputs, rotation):
        return None
    query, key, value = _linear(op, x, _projections(inputs), norm=norm, epsilon=epsilon)
    inputs = replace(inputs, query=query, key=key, value=value)
    return _emit_attention(op, inputs, rotation)


def _is_partial(op: Emitter, inputs: AttentionInputs, rotation: Rotation) -> bool:
    """Whether a part of each head is rotated, which is left to the target."""
    return 2 * op.width(rotation.cos) != inputs.head_dim.as_int()


def _projections(inputs: AttentionInputs) -> tuple[Any, Any, Any]:
    return inputs.query, inputs.key, inputs.value


def _emit_attention(op: Emitter, inputs: AttentionInputs, rotation: Rotation | None = None) -> Any:
    """Attention, with rotation before it if there is one."""
    if rotation is not None and _is_partial(op, inputs, rotation):
        return None
    # Where weights are rounded to blocks, a state in float16 costs nothing that could be noticed.
    # Where they are not, results are exact to float32, and so is the state.
    half = not op.encodings().isdisjoint(BLOCKS)
    dtype = np.float16 if half else np.float32
    sinks = () if inputs.sinks is None else (_vector(op, inputs.sinks),)
    name = ("RotaryAttention" if rotation else "Attention") + "Float32" * (not half)
    return getattr(op, name)(
        inputs.query,
        inputs.key,
        inputs.value,
        *(op.keep_state_in(part, dtype) for part in (inputs.past_key, inputs.past_value)),
        inputs.past,
        inputs.total,
        *((rotation.cos, rotation.sin) if rotation else ()),
        *sinks,
        head_dim=inputs.head_dim.as_int(),
        scale=inputs.scale.as_float(),
        interleaved=rotation.interleaved.as_int() if rotation else 0,
        window=inputs.window.as_int(),
        cap=inputs.cap.as_float(),
        value_dim=inputs.value_size,
        _domain=DOMAIN,
        _outputs=3,
    )


def _emit_experts(op: Emitter, logits: Any, inputs: ExpertsInputs) -> Any:
    stacks = (inputs.gate, inputs.up, inputs.down)
    biases = (inputs.gate_bias, inputs.up_bias, inputs.down_bias)
    count = op.width(logits)
    if any(_begins_in_tile(op, stack, count) for stack in stacks):
        return None
    return op.Experts(
        inputs.x,
        logits,
        *(_matrix(op, stack) for stack in stacks),
        *(op.weight(b, "float32", (count, op.width(b))) for b in biases if b is not None),
        columns=op.shape(inputs.gate)[1],
        inner=op.shape(inputs.down)[1],
        experts=count,
        used=inputs.used.as_int(),
        routing=_ROUTINGS.index(inputs.routing.as_string()),
        normalize=inputs.normalize.as_int(),
        scale=inputs.scale.as_float(),
        biased=int(inputs.gate_bias is not None),
        alpha=inputs.alpha.as_float(),
        limit=inputs.limit.as_float(),
        offset=inputs.offset.as_float(),
        **{f"encoding_{i}": _number(op, stack) for i, stack in enumerate(stacks)},
        _domain=DOMAIN,
    )


def _begins_in_tile(op: Emitter, stack: Any, count: int) -> bool:
    """Whether a matrix of a stack begins within a tile of the one before."""
    return op.encoding(stack) in BLOCKS and op.shape(stack)[0] // count % tiles.ROWS != 0


def _emit_rows(op: Emitter, tokens: Any, weight: Any) -> Any:
    columns = op.shape(weight)[1]
    return op.Embedding(
        tokens, _stored(op, weight), encoding=_number(op, weight), columns=columns, _domain=DOMAIN
    )


def _of_blocks_and_floats(
    name: str,
    pattern: Callable[..., Any],
    emit: Callable[..., Any],
    weights: Sequence[str],
    examples: Examples | None = None,
) -> Iterator[Rule]:
    """One rule for block-encoded matrices, whose products round activations, one for floats."""
    for encodings, tolerance in ((BLOCKS, INT8), (FLOATS, 1e-4)):
        taken = _taken(pattern, weights, encodings)
        yield Rule(name, pattern, emit, taken, tolerance=tolerance, examples=examples)


def _of_each_block_encoding(
    name: str, pattern: Callable[..., Any], emit: Callable[..., Any], examples: Examples
) -> Iterator[Rule]:
    """Rules for gate and up in the same encoding."""
    for encoding in BLOCKS:
        taken = _taken(pattern, ("gate", "up"), (encoding,))
        yield Rule(name, pattern, emit, taken, tolerance=INT8, examples=examples)


def _taken(
    pattern: Callable[..., Any], weights: Sequence[str], encodings: Sequence[str]
) -> dict[str, Sequence[str]]:
    """Encodings by weight; a norm's is one of the file, since the kernels have it as a constant."""
    norm = {"norm": (F32.name,)} if "norm" in signature(pattern).parameters else {}
    return {**dict.fromkeys(weights, encodings), **norm}


def _rules() -> Iterator[Rule]:
    """What spans more comes first."""
    yield from _of_blocks_and_floats(
        "norm, projections and attention",
        _norm_rope_attention,
        _emit_norm_rope_attention,
        ("query", "key", "value"),
        examples.norm_rope_attention,
    )
    yield Rule(
        "attention with rotation",
        patterns.rope_attention,
        _emit_attention,
        examples=examples.rope_attention,
    )
    yield Rule("attention", patterns.attention, _emit_attention, examples=examples.attention)
    for by, gate in _GATES.items():
        yield from _of_each_block_encoding(
            f"norm and gated product{by}", gate.normed, gate.emit_normed, examples.norm_gated
        )
        yield from _of_each_block_encoding(
            f"gated product{by}", gate.plain, gate.emit, examples.gated
        )
    yield from _of_blocks_and_floats(
        "product and residual", _linear_add, _emit_linear_add, ("weight",), examples.linear_add
    )
    yield from _of_blocks_and_floats(
        "norm and product", _norm_linear, _emit_norm_linear, ("weight",), examples.norm_linear
    )
    yield from _of_blocks_and_floats("product", patterns.linear, _emit_linear, ("weight",))
    stacks = ("gate", "up", "down")
    floats, stored = (dict.fromkeys(stacks, encodings) for encodings in (FLOATS, STORED))
    yield Rule("experts", patterns.experts, _emit_experts, floats)
    yield Rule("experts", patterns.experts, _emit_experts, stored, tolerance=INT8)
    yield Rule("rows", patterns.embedding, _emit_rows, {"weight": STORED})


PACKAGE = OpPackage(
    summary="CPU kernels over the weights as GGUF files hold them, at the speed of the memory.",
    # The kernels sum in one order, whatever they compute together.
    rules={"cpu": tuple(replace(rule, batch_invariant=True) for rule in _rules())},
    layouts={"tiles": tiles.tiles},
)
