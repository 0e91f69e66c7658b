"""Stage 2: rewrites the neutral graph into what a target runs, rule by rule.

Rules are tried in order, each over the whole graph, so an earlier rule sees a pattern before a
later one can swallow part of it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

import onnx_ir as ir
from onnx_ir.passes.common import (
    ClearMetadataAndDocStringPass,
    CommonSubexpressionEliminationPass,
    RemoveUnusedNodesPass,
)

from pipelines.common.encodings import Encoding
from pipelines.common.errors import LoweringError, NoRuleError, one_line
from pipelines.common.graph.pattern_trace import trace
from pipelines.common.graph.precision import calculate_in
from pipelines.common.graph.rewrite import Lowering, apply
from pipelines.common.graph.rules import (
    COMPUTED,
    KEPT,
    TYPED,
    LoweredGraph,
    LoweredWeight,
    Rule,
    Taken,
    element_type,
)
from pipelines.common.graph.weights import GraphWeights
from pipelines.common.ops import DOMAIN

_STATE = re.compile(r"(key|value)\.\d+")
"""Names of the graph's inputs that are halves of the KV state."""

_TABLE = re.compile(r"(cos|sin)(\.\d+)?")
"""Names of those that are rotary tables."""


def lower(
    model: ir.Model,
    rules: Sequence[Rule],
    encodings: Mapping[str, Encoding],
    target: str,
    activations: str = "float32",
) -> LoweredGraph:
    """Rewrites `model`, which is used up.

    The graph gives its results in float32, whatever type its activations have.

    Args:
        model: The neutral graph.
        rules: Those of op packages first, then the target's.
        encodings: What each parameter runs in.
        target: Name of the target, for messages.
        activations: The type of the activations: float32, float16 or bfloat16.

    Raises:
        LoweringError: No rule takes an operator.
    """
    kind = element_type(activations)
    lowering = Lowering(model.graph, GraphWeights(model.graph, encodings), kind)
    taken = []
    present = {COMPUTED, *(encoding.name for encoding in encodings.values())}
    operators = _operators(model.graph)
    for rule in rules:
        if any(present.isdisjoint(wanted) for wanted in rule.encodings.values()):
            continue  # most rules for encodings are for others than these
        traced = trace(rule.pattern)
        if not operators.issuperset(node.operator for node in traced.nodes):
            continue
        nodes = apply(rule, lowering, model)
        if nodes:
            operators = _operators(model.graph)
            taken.append(
                Taken(rule.package, rule.name, traced.operators, nodes, rule.batch_invariant)
            )
    _check_lowered(model.graph, encodings, target)
    try:
        return _finished(lowering, model, taken, activations)
    except Exception as error:
        if culprit := _no_onnx(model.graph, rules):
            raise LoweringError(f"{culprit}: {one_line(error)}") from error
        raise


def _operators(graph: ir.Graph) -> set[str]:
    """The operators that there are, also within those that have graphs of their own."""
    return {node.op_type for node in ir.traversal.RecursiveGraphIterator(graph)}


def _finished(
    lowering: Lowering, model: ir.Model, taken: Sequence[Taken], activations: str
) -> LoweredGraph:
    """The graph, when all rules have been applied."""
    lowering.weights.supply_values(lowering.activations)
    if activations != "float32":
        calculate_in(
            model.graph, ir.DataType.from_numpy(lowering.activations), _arrays(lowering, model)
        )
    for clean in (
        CommonSubexpressionEliminationPass(),
        RemoveUnusedNodesPass(),
        ClearMetadataAndDocStringPass(),
    ):
        model = clean(model).model
    lowered = _install(lowering, model)
    return LoweredGraph(
        ir.to_proto(model).SerializeToString(),
        lowered,
        _state_bytes(model.graph),
        tuple(taken),
        activations,
    )


def _arrays(lowering: Lowering, model: ir.Model) -> list[ir.Value]:
    """The inputs that are arrays of a call; of weights, state and tables rules say the type."""
    return [
        value
        for value in model.graph.inputs
        if value.name not in lowering.weights.encodings
        and not _STATE.fullmatch(value.name or "")
        and not _TABLE.fullmatch(value.name or "")
    ]


def _no_onnx(graph: ir.Graph, rules: Sequence[Rule]) -> str | None:
    """What an op package has emitted that ONNX cannot express; None if it is nobody's."""
    made = {f"{rule.package}/{rule.name}": rule for rule in rules if rule.package}
    for node in graph:
        rule = made.get(node.name or "")
        if rule is None:
            continue
        try:
            ir.to_proto(node)
        # Whatever it is that ONNX does not take.
        except Exception:  # noqa: BLE001
            return (
                f"rule '{rule.name}' of op package '{rule.package}' emits a node {node.op_type}"
                " that ONNX cannot express"
            )
    return None


def _install(lowering: Lowering, model: ir.Model) -> tuple[LoweredWeight, ...]:
    """Puts what rules have asked for into the model: inputs, tensors, functions; the tensors."""
    graph = lowering.graph
    lowering.weights.remove_parameters()
    graph.inputs.extend(value for value in lowering.inputs.values() if value.uses())
    weights = lowering.weights.install()
    model.functions.update(lowering.functions)
    for node in graph:
        node.domain = {KEPT: DOMAIN, TYPED: ""}.get(node.domain, node.domain)
    for domain in (KEPT, TYPED):
        graph.opset_imports.pop(domain, None)
    if not any(node.domain == DOMAIN for node in graph):
        graph.opset_imports.pop(DOMAIN, None)
    return weights


def _state_bytes(graph: ir.Graph) -> int:
    """What a token of a slot takes of the halves ``[slots, kv_heads, capacity, width]``."""
    total = 0
    for value in graph.inputs:
        if value.name is not None and _STATE.fullmatch(value.name):
            assert value.shape is not None and value.dtype is not None
            _, kv_heads, _, width = value.shape
            assert isinstance(kv_heads, int) and isinstance(width, int)
            total += math.ceil(kv_heads * width * value.dtype.itemsize)
    return total


def _check_lowered(graph: ir.Graph, encodings: Mapping[str, Encoding], target: str) -> None:
    left = [node for node in graph if node.domain == DOMAIN]
    if left:
        node = left[0]
        weight = next(
            (value.name for value in node.inputs if value is not None and value.name in encodings),
            None,
        )
        of = f" with a weight in {encodings[weight].name} ({weight})" if weight else ""
        count = f"{len(left)} such nodes" if len(left) > 1 else "one such node"
        message = f"target {target} has no rule for operator {node.op_type}{of} ({count})"
        raise NoRuleError(message, node.op_type)
