"""`Experts` as products with each expert's matrices, for targets that have nothing better.

Every expert computes every token, which takes its reading of all weights and no more: right in any
encoding, since each product is a `Linear` that the target's later rules lower, and slow.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pipelines.common.encodings import ENCODINGS
from pipelines.common.graph import patterns
from pipelines.common.graph.patterns import ExpertsInputs
from pipelines.common.graph.rules import TYPED, Emitter, Rule
from pipelines.common.ops import DOMAIN
from pipelines.common.ort.emit import FLOAT, ONNX_TYPES

_STEEP = 2.0**100
"""Makes a whole one, or more, of any difference that counts between two float32s."""

_LEAST = -65504.0
"""What float16 goes down to: nothing below it passes a gate."""

_NEVER = -1e30
"""What is added to a logit that has no say: softmax makes it 0."""


def routed_experts(op: Emitter, router: Any, inputs: ExpertsInputs) -> Any:
    """`Experts` whose router is computed in float32, that the same ones be chosen everywhere."""
    return experts(op, _logits(op, inputs.x, router), inputs, count=op.shape(router)[0])


def biased_experts(op: Emitter, router: Any, bias: Any, inputs: ExpertsInputs) -> Any:
    """The same of a router with a bias."""
    count = op.shape(router)[0]
    added = op.weight(bias, "float32", (count,), constant=False)
    logits = op.Add(_logits(op, inputs.x, router), added, _domain=TYPED)
    return experts(op, logits, inputs, count=count)


def _logits(op: Emitter, x: Any, router: Any) -> Any:
    matrix = op.weight(router, "float32", op.shape(router), constant=False)
    return op.MatMul(_wide(op, x), op.Transpose(matrix, perm=[1, 0]))


def experts(op: Emitter, logits: Any, inputs: ExpertsInputs, count: int | None = None) -> Any:
    """`Experts`: each computes the tokens that have chosen it, and zeros for all others.

    Args:
        op: Emits.
        logits: The router's, ``[batch, sequence, experts]``.
        inputs: The rest.
        count: Experts, where the logits' shape does not say it.
    """
    count = op.width(logits) if count is None else count
    chosen, weights = _weights(op, _wide(op, logits), inputs, count)
    kind = ONNX_TYPES[op.activations.name]
    # What an expert that is not chosen makes of a token may be beyond float16, and times 0 no
    # number; of zeros it makes zeros.
    of_each = zip(
        op.Split(op.Cast(chosen, to=kind), axis=-1, num_outputs=count, _outputs=count),
        op.Split(op.Cast(weights, to=kind), axis=-1, num_outputs=count, _outputs=count),
        *(op.matrices(stack) for stack in (inputs.gate, inputs.up, inputs.down)),
        *(_rows(op, bias, count) for bias in (inputs.gate_bias, inputs.up_bias, inputs.down_bias)),
        strict=True,
    )
    total = None
    for given, weight, gate, up, down, gate_bias, up_bias, down_bias in of_each:
        x = op.Mul(inputs.x, given)
        inner = _gated(op, _product(op, x, gate, gate_bias), _product(op, x, up, up_bias), inputs)
        made = op.Mul(_product(op, inner, down, down_bias), weight)
        total = made if total is None else op.Add(total, made)
    return total


def _rows(op: Emitter, bias: Any, count: int) -> Sequence[Any]:
    """What of a stack of biases is each expert's, ``[1, rows]``; None each where there is none."""
    if bias is None:
        return [None] * count
    kind = op.activations
    stack = op.weight(bias, kind.name, (count, op.width(bias)), kind, constant=False)
    rows: Sequence[Any] = op.Split(stack, axis=0, num_outputs=count, _outputs=count)
    return rows


def _product(op: Emitter, x: Any, weight: Any, bias: Any) -> Any:
    made = op.Linear(x, weight, _domain=DOMAIN)
    return made if bias is None else op.Add(made, bias)


def _gated(op: Emitter, gate: Any, up: Any, inputs: ExpertsInputs) -> Any:
    """What goes into the last product of an expert."""
    alpha, limit, offset = (
        number.as_float() for number in (inputs.alpha, inputs.limit, inputs.offset)
    )

    def within(x: Any, least: float) -> Any:
        bounds = (op.Constant(value_float=bound) for bound in (least, limit))
        return op.Clip(x, *bounds)

    if limit:
        gate, up = within(gate, _LEAST), within(up, -limit)
    if offset:
        up = op.Add(up, op.Constant(value_float=offset))
    if alpha == 1:
        return op.Mul(op.SiLU(gate, _domain=DOMAIN), up)
    passed = op.Sigmoid(op.Mul(gate, op.Constant(value_float=alpha)))
    return op.Mul(op.Mul(gate, passed), up)


def _weights(op: Emitter, logits: Any, inputs: ExpertsInputs, count: int) -> tuple[Any, Any]:
    """In float32, ``[batch, sequence, experts]``: 1 where one is chosen, and weights, else 0."""
    routing = inputs.routing.as_string()
    used = inputs.used.as_int()
    chosen = _among_largest(op, logits, used, count)
    if routing == "topk_softmax":
        never = op.Mul(op.Sub(chosen, _number(op, 1)), _number(op, -_NEVER))
        weights = op.Softmax(op.Add(logits, never), axis=-1)
    else:
        scores = op.Sigmoid(logits) if routing == "sigmoid" else op.Softmax(logits, axis=-1)
        weights = op.Mul(scores, chosen)
    if inputs.normalize.as_int():
        total = op.ReduceSum(weights, op.Constant(value_ints=[-1]), keepdims=1)
        weights = op.Div(weights, total)
    return chosen, op.Mul(weights, _number(op, inputs.scale.as_float()))


def _among_largest(op: Emitter, logits: Any, used: int, count: int) -> Any:
    """1 for the `used` largest of `count` logits, of equal ones the first, and 0 for the others.

    A provider's own choice differs between equal ones, and some have none; to count for each logit
    those before it takes a few operators that all have.
    """
    import onnx_ir as ir

    ours = op.Unsqueeze(logits, op.Constant(value_ints=[-1]))
    others = op.Unsqueeze(logits, op.Constant(value_ints=[-2]))
    larger = _step(op, op.Mul(op.Sub(others, ours), _number(op, _STEEP)))
    smaller = _step(op, op.Mul(op.Sub(ours, others), _number(op, _STEEP)))
    earlier = np.tri(count, k=-1, dtype=np.float32)
    first = op.Constant(value=ir.tensor(earlier), _domain=TYPED)
    equal = op.Sub(_number(op, 1), op.Add(larger, smaller))
    before = op.Add(larger, op.Mul(first, equal))
    rank = op.ReduceSum(before, op.Constant(value_ints=[-1]), keepdims=0)
    return _step(op, op.Sub(_number(op, used), rank))


def _step(op: Emitter, x: Any) -> Any:
    """0 for what is not positive, and 1 from 1 on."""
    return op.Clip(x, _number(op, 0), _number(op, 1))


def _wide(op: Emitter, x: Any) -> Any:
    """In float32, if activations are narrower."""
    return x if op.activations == np.float32 else op.Cast(x, to=FLOAT, _domain=TYPED)


def _number(op: Emitter, value: float) -> Any:
    return op.Constant(value_float=float(value), _domain=TYPED)


_STACKS = dict.fromkeys(("gate", "up", "down"), tuple(ENCODINGS))

RULES: tuple[Rule, ...] = (
    Rule(
        "experts one by one, routed in float32",
        patterns.routed_experts,
        routed_experts,
        {"router": ("f32",), **_STACKS},
    ),
    Rule(
        "experts one by one, routed in float32 with a bias",
        patterns.biased_experts,
        biased_experts,
        {"router": ("f32",), "bias": ("f32",), **_STACKS},
    ),
    Rule("experts one by one", patterns.experts, experts, _STACKS),
)
"""They stand before a target's rules for `Linear` and `SiLU`."""
