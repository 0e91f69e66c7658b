"""Stage 2: rewrites the neutral graph into what a target runs, rule by rule.

Rules are tried in order, each over the whole graph, so an earlier rule sees a pattern before a
later one can swallow part of it.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
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
from pipelines.common.errors import LoweringError, NoRuleError
from pipelines.common.graph.pattern_trace import trace
from pipelines.common.graph.precision import calculate_in
from pipelines.common.graph.records import flat
from pipelines.common.graph.rules import (
    COMPUTED,
    KEPT,
    LAYOUTS,
    PLACEHOLDER,
    TYPED,
    LoweredGraph,
    LoweredWeight,
    Rule,
    Taken,
    element_type,
)
from pipelines.common.ops import DOMAIN, OPERATORS

_STATE = re.compile(r"(key|value)\.\d+")
"""Names of the graph's inputs that are halves of the KV state."""


def lower(
    model: ir.Model,
    rules: Sequence[Rule],
    encodings: Mapping[str, Encoding],
    target: str,
    activations: str = "float32",
) -> LoweredGraph:
    """Rewrites `model`, which is used up.

    The graph gives its logits in float32, whatever type its activations have.

    Args:
        model: The neutral graph.
        rules: Those of op packages first, then the target's.
        encodings: What each parameter runs in.
        target: Name of the target, for messages.
        activations: The type of the activations: float32, float16 or bfloat16.

    Raises:
        LoweringError: No rule takes an operator.
    """
    lowering = _Lowering(model.graph, encodings, element_type(activations))
    taken = []
    for rule in rules:
        nodes = _rewrite_rule(rule, lowering).apply_to_model(model)
        if nodes:
            operators = trace(rule.pattern).operators
            taken.append(Taken(rule.package, rule.name, operators, nodes, rule.batch_invariant))
    _check_lowered(model.graph, encodings, target)
    lowering.supply_values()
    if activations != "float32":
        calculate_in(model.graph, ir.DataType.from_numpy(element_type(activations)))
    for clean in (
        CommonSubexpressionEliminationPass(),
        RemoveUnusedNodesPass(),
        ClearMetadataAndDocStringPass(),
    ):
        model = clean(model).model
    lowered = lowering.install(model)
    return LoweredGraph(
        ir.to_proto(model).SerializeToString(),
        lowered,
        _state_bytes(model.graph),
        tuple(taken),
        activations,
    )


class _Lowering:
    """The parameters of the neutral graph, the tensors that rules make of them, and functions."""

    def __init__(
        self, graph: ir.Graph, encodings: Mapping[str, Encoding], activations: np.dtype[Any]
    ) -> None:
        self.graph = graph
        self.encodings = encodings
        self.activations = activations
        self.parameters = {value for value in graph.inputs if value.name in encodings}
        self.made: dict[str, tuple[ir.Value, LoweredWeight]] = {}
        self.inputs: dict[str, ir.Value] = {}
        # Not in the model before the end: later rules would look for their patterns inside.
        self.functions: dict[ir.OperatorIdentifier, ir.Function] = {}

    def encoding(self, value: ir.Value) -> Encoding | None:
        """What a weight runs in; None for a value that is none."""
        if value not in self.parameters or value.name is None:
            return None
        return self.encodings[value.name]

    def encoding_name(self, value: ir.Value) -> str:
        """Its name; `COMPUTED` for a value that is no weight."""
        encoding = self.encoding(value)
        return COMPUTED if encoding is None else encoding.name

    def make(
        self,
        value: ir.Value,
        layout: str,
        shape: tuple[int, ...],
        dtype: DTypeLike,
        *,
        constant: bool,
        package: str,
        host: bool = False,
    ) -> ir.Value:
        """The tensor of that layout, the same one for every rule that asks.

        Raises:
            ValueError: The value is no weight.
        """
        encoding = self.encoding(value)
        if encoding is None or value.name is None:
            raise ValueError(
                f"{value.name} is no weight; `encodings` of a rule has those of its pattern that"
                " have to be"
            )
        kind = np.dtype(dtype)
        if layout in LAYOUTS:
            package = ""
        name = ":".join(part for part in (value.name, package, layout) if part)
        described = LoweredWeight(
            name, value.name, layout, kind.name, shape, constant, encoding.name, package, host
        )
        tensor, first = self.made.setdefault(name, (_tensor(name, shape, kind), described))
        if described != first:
            raise LoweringError(
                f"weight {value.name} is wanted as {layout} in two ways: {_form(first)} and"
                f" {_form(described)}; the rules that take it have to agree"
            )
        return tensor

    def supply_values(self) -> None:
        """Gives standard operators the values of the parameters that they use, as activations.

        They are inputs: what is computed of constants only, a runtime would compute when it
        compiles the graph, and look for their values in it.
        """
        kind = self.activations
        for value in self.graph.inputs:
            if value in self.parameters and value.uses():
                assert value.shape is not None
                name = f"{value.name}:{kind.name}"
                if name in self.made:  # a rule has asked for it, and may have taken a constant
                    tensor, described = self.made[name]
                    self.made[name] = tensor, replace(described, constant=False)
                else:
                    shape = tuple(value.shape.numpy())
                    tensor = self.make(value, kind.name, shape, kind, constant=False, package="")
                value.replace_all_uses_with(tensor)

    def install(self, model: ir.Model) -> tuple[LoweredWeight, ...]:
        """Puts what is used into the model: tensors in the place of the parameters, functions."""
        graph = model.graph
        for value in list(graph.inputs):
            if value in self.parameters:
                graph.inputs.remove(value)
        graph.inputs.extend(value for value in self.inputs.values() if value.uses())
        used = [made for made in self.made.values() if made[0].uses() or made[1].host]
        for value, weight in used:
            if weight.host:
                continue
            if weight.constant:
                # Only declared: the runner supplies it, and nothing is ever read from that file.
                assert value.dtype is not None and value.shape is not None and value.name
                value.const_value = ir.ExternalTensor(
                    PLACEHOLDER, 0, weight.nbytes, value.dtype, shape=value.shape, name=value.name
                )
                graph.initializers.add(value)
            else:
                graph.inputs.append(value)
        kept = [node for node in graph if node.domain == KEPT]
        for node in kept:
            node.domain = DOMAIN
        for node in graph:
            if node.domain == TYPED:
                node.domain = ""
        for domain in (KEPT, TYPED):
            graph.opset_imports.pop(domain, None)
        if not kept:
            graph.opset_imports.pop(DOMAIN, None)
        model.functions.update(self.functions)
        return tuple(weight for _, weight in used)


def _tensor(name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> ir.Value:
    kind = ir.TensorType(ir.DataType.from_numpy(dtype))
    return ir.Value(name=name, shape=ir.Shape(shape), type=kind)


def _form(weight: LoweredWeight) -> str:
    return f"{weight.dtype} {list(weight.shape)} {'constant' if weight.constant else 'input'}"


class _Emitter:
    """Implements `Emitter` with the rewriter's node builder.

    Args:
        builder: The rewriter's.
        lowering: Has the weights.
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
            if COMPUTED in encodings and lowering.encoding(bound[parameter]) is None
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
        return self._lowering.make(
            value, layout, shape, dtype, constant=constant, package=self._package
        )

    def host_weight(
        self, value: ir.Value, layout: str, shape: tuple[int, ...], dtype: DTypeLike = np.float32
    ) -> None:
        self._lowering.make(
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
        return frozenset(encoding.name for encoding in self._lowering.encodings.values())

    def encoding(self, value: ir.Value) -> str:
        return self._lowering.encoding_name(value)

    def shape(self, value: ir.Value) -> tuple[int, int]:
        assert value.shape is not None
        rows, columns = value.shape.numpy()
        return rows, columns

    def width(self, value: ir.Value) -> int:
        assert value.shape is not None
        width = value.shape[-1]
        assert isinstance(width, int)
        return width


class _NeutralBuilder:
    """The rewriter's pattern builder, in which neutral operators go by their plain names."""

    def __init__(self, builder: Any) -> None:
        self._builder = builder

    def __getattr__(self, operator: str) -> Any:
        make = getattr(self._builder, operator)
        return functools.partial(make, _domain=DOMAIN) if operator in OPERATORS else make


def _rewrite_rule(rule: Rule, lowering: _Lowering) -> pattern.RewriteRule:
    find, make = flat(rule.pattern), flat(rule.emit)

    @functools.wraps(find)
    def look_for(op: Any, *values: Any, **attributes: Any) -> Any:
        return find(_NeutralBuilder(op), *values, **attributes)

    def applies(_context: Any, **bound: Any) -> bool:
        return all(
            lowering.encoding_name(bound[parameter]) in encodings
            for parameter, encodings in rule.encodings.items()
        )

    def emit(op: Any, **bound: Any) -> Any:
        outputs = make(_Emitter(op, lowering, rule, bound), **bound)
        _check_emitted(rule, outputs)
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


def _state_bytes(graph: ir.Graph) -> int:
    """What a token of a slot takes of the halves ``[slots, kv_heads, capacity, head_dim]``."""
    total = 0
    for value in graph.inputs:
        if value.name is not None and _STATE.fullmatch(value.name):
            assert value.shape is not None and value.dtype is not None
            _, kv_heads, _, head_dim = value.shape
            assert isinstance(kv_heads, int) and isinstance(head_dim, int)
            total += math.ceil(kv_heads * head_dim * value.dtype.itemsize)
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
