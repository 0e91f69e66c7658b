"""Stage 2: rewrites the neutral graph into what a target runs, rule by rule.

Rules are tried in order, each over the whole graph, so an earlier rule sees a pattern before a
later one can swallow part of it.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import DTypeLike
from onnx_ir.passes.common import (
    ClearMetadataAndDocStringPass,
    CommonSubexpressionEliminationPass,
    RemoveUnusedNodesPass,
)
from onnxscript.rewriter import pattern

from pipelines.common.encodings import Encoding
from pipelines.common.errors import LoweringError, NoRuleError, one_line
from pipelines.common.graph.pattern_trace import trace
from pipelines.common.graph.precision import calculate_in
from pipelines.common.graph.records import flat
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
from pipelines.common.ops import DOMAIN, OPERATORS

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
    lowering = _Lowering(model.graph, GraphWeights(model.graph, encodings), kind)
    taken = []
    present = {COMPUTED, *(encoding.name for encoding in encodings.values())}
    operators = _operators(model.graph)
    for rule in rules:
        if any(present.isdisjoint(wanted) for wanted in rule.encodings.values()):
            continue  # most rules for encodings are for others than these
        traced = trace(rule.pattern)
        if not operators.issuperset(node.operator for node in traced.nodes):
            continue
        nodes = _apply(rule, lowering, model)
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
    lowering: _Lowering, model: ir.Model, taken: Sequence[Taken], activations: str
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


def _arrays(lowering: _Lowering, model: ir.Model) -> list[ir.Value]:
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


@dataclass(frozen=True)
class _Lowering:
    """A graph on its way.

    Attributes:
        graph: The graph.
        weights: Its weights.
        activations: The type of its activations.
        inputs: Those that rules have asked for, by name.
        functions: Those that rules call. They are not in the model before the end: later rules
            would look for their patterns inside.
        raised: What rules have raised.
    """

    graph: ir.Graph
    weights: GraphWeights
    activations: np.dtype[Any]
    inputs: dict[str, ir.Value] = field(default_factory=dict)
    functions: dict[ir.OperatorIdentifier, ir.Function] = field(default_factory=dict)
    raised: list[Exception] = field(default_factory=list)


class _Emitter:
    """Implements `Emitter` with the rewriter's node builder.

    Args:
        builder: The rewriter's.
        lowering: What the graph gets beside nodes.
        rule: The rule that emits.
        bound: What its pattern has found, by parameter.
    """

    def __init__(
        self, builder: Any, lowering: _Lowering, rule: Rule, bound: Mapping[str, Any]
    ) -> None:
        self._builder = builder
        self._lowering = lowering
        self._package = rule.package
        self._computed = {
            bound[parameter]
            for parameter, encodings in rule.encodings.items()
            if COMPUTED in encodings and lowering.weights.encoding(bound[parameter]) is None
        }

    def __getattr__(self, operator: str) -> Any:
        return getattr(self._builder, operator)

    def weight(
        self,
        value: ir.Value,
        layout: str,
        shape: tuple[int, ...],
        dtype: DTypeLike = np.float32,
        *,
        constant: bool = True,
    ) -> ir.Value:
        if value in self._computed:
            return value
        return self._lowering.weights.make(
            value, layout, shape, dtype, constant=constant, package=self._package
        )

    def host_weight(
        self, value: ir.Value, layout: str, shape: tuple[int, ...], dtype: DTypeLike = np.float32
    ) -> None:
        self._lowering.weights.make(
            value, layout, shape, dtype, constant=False, package=self._package, host=True
        )

    def input(self, name: str, dtype: DTypeLike, shape: Sequence[int | str]) -> ir.Value:
        made = ir.Value(
            name=name,
            shape=ir.Shape(shape),
            type=ir.TensorType(ir.DataType.from_numpy(np.dtype(dtype))),
        )
        return self._lowering.inputs.setdefault(name, made)

    def call(self, function: Any, *inputs: Any, _outputs: int = 1, **attributes: Any) -> Any:
        inner = function.function_ir.get_called_functions().values()
        for used in (function, *inner):
            definition = ir.from_proto(used.to_function_proto())
            self._lowering.functions[definition.identifier()] = definition
            self._lowering.graph.opset_imports.setdefault(definition.domain, 1)
        node = getattr(self._builder, function.name)
        domain = function.function_ir.domain
        return node(*inputs, _domain=domain, _outputs=_outputs, **attributes)

    def keep_state_in(self, value: ir.Value, dtype: DTypeLike) -> ir.Value:
        self.supply_in(value, dtype)
        assert value.dtype is not None
        for output in self._lowering.graph.outputs:
            if output.name == f"new_{value.name}":
                output.dtype = value.dtype
        return value

    def supply_in(self, value: ir.Value, dtype: DTypeLike) -> ir.Value:
        value.dtype = ir.DataType.from_numpy(np.dtype(dtype))
        return value

    @property
    def activations(self) -> np.dtype[Any]:
        return self._lowering.activations

    def encodings(self) -> frozenset[str]:
        return frozenset(encoding.name for encoding in self._lowering.weights.encodings.values())

    def encoding(self, value: ir.Value) -> str:
        return self._lowering.weights.encoding_name(value)

    def shape(self, value: ir.Value) -> tuple[int, int]:
        assert value.shape is not None
        *rows, columns = value.shape.numpy()
        return math.prod(rows), columns

    def matrices(self, value: ir.Value) -> Sequence[ir.Value]:
        return self._lowering.weights.matrices(value)

    def width(self, value: ir.Value) -> int:
        assert value.shape is not None
        width = value.shape[-1]
        assert isinstance(width, int)
        return width


class _NeutralBuilder:
    """The rewriter's pattern builder, in which neutral operators go by their plain names.

    Args:
        builder: The rewriter's.
        defaults: Is told what attributes that nodes may go without are then, by the name of the
            pattern's parameter.
    """

    def __init__(self, builder: Any, defaults: dict[str, ir.Attr]) -> None:
        self._builder = builder
        self._defaults = defaults

    def __getattr__(self, name: str) -> Any:
        make, operator = getattr(self._builder, name), OPERATORS.get(name)
        if operator is None:
            return make

        def neutral(*inputs: Any, **attributes: Any) -> Any:
            for parameter in operator.defaults.keys() & attributes.keys():
                bound = attributes[parameter]
                if isinstance(bound, pattern.Var):
                    attributes[parameter] = _may_be_left_out(bound)
                    default = operator.defaults[parameter]
                    self._defaults[str(bound.name)] = ir.convenience.convert_attribute(
                        parameter, default
                    )
            made = (
                _may_be_left_out(value) if parameter in operator.defaults else value
                for parameter, value in zip(operator.tensors(attributes), inputs, strict=False)
            )
            return make(*made, _domain=DOMAIN, _allow_other_attributes=False, **attributes)

        return neutral


def _may_be_left_out(variable: Any) -> Any:
    """A variable of a pattern that is bound where a node has nothing for it, too."""
    if not isinstance(variable, pattern.Var):
        return variable
    return pattern.Var(variable.name, can_match_none=True)


def _apply(rule: Rule, lowering: _Lowering, model: ir.Model) -> int:
    """Applies a rule to a graph; how many nodes it has taken.

    Raises:
        LoweringError: An op package has emitted what no graph can have.
    """
    rewrite = _rewrite_rule(rule, lowering)
    try:
        return rewrite.apply_to_model(model)
    except Exception as error:
        # What the rule itself has raised says all that there is to say.
        if not rule.package or error in lowering.raised:
            raise
        raise LoweringError(
            f"rule '{rule.name}' of op package '{rule.package}' emits what ONNX cannot express:"
            f" {one_line(error)}"
        ) from error


def _rewrite_rule(rule: Rule, lowering: _Lowering) -> pattern.RewriteRule:
    find, make = flat(rule.pattern), flat(rule.emit)
    defaults: dict[str, ir.Attr] = {}

    @functools.wraps(find)
    def look_for(op: Any, *values: Any, **attributes: Any) -> Any:
        return find(_NeutralBuilder(op, defaults), *values, **attributes)

    def applies(_context: Any, **bound: Any) -> bool:
        return all(
            lowering.weights.encoding_name(bound[parameter]) in encodings
            for parameter, encodings in rule.encodings.items()
        )

    def emit(op: Any, **bound: Any) -> Any:
        bound |= {name: default for name, default in defaults.items() if bound[name] is None}
        try:
            outputs = make(_Emitter(op, lowering, rule, bound), **bound)
            _check_emitted(rule, outputs)
        except Exception as error:
            lowering.raised.append(error)
            raise
        if rule.package:
            # What the runtime says of a node that fails names it, and so the package.
            for node in op.nodes:
                node.name = f"{rule.package}/{rule.name}"
        return outputs

    return pattern.RewriteRule(look_for, emit, applies, name=rule.name)


def _check_emitted(rule: Rule, outputs: Any) -> None:
    """Makes sure that a rule gives what takes the place of its pattern, or None for nothing.

    Raises:
        LoweringError: It does not.
    """
    wanted = len(trace(rule.pattern).outputs)
    found = tuple(outputs) if isinstance(outputs, Sequence) else (outputs,)
    if outputs is None or (len(found) == wanted and all(isinstance(v, ir.Value) for v in found)):
        return
    kinds = ", ".join(type(value).__name__ for value in found)
    raise LoweringError(
        f"rule '{rule.name}' of op package '{rule.package}' emits {kinds or 'nothing'}; expected"
        f" {wanted} of the graph's values, as its pattern has outputs"
    )


def _install(lowering: _Lowering, model: ir.Model) -> tuple[LoweredWeight, ...]:
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
