"""Applies one rule to a graph, by the pattern rewriter of `onnxscript`."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import DTypeLike
from onnxscript.rewriter import pattern

from pipelines.common.errors import LoweringError, one_line
from pipelines.common.graph.pattern_trace import trace
from pipelines.common.graph.records import flat
from pipelines.common.graph.rules import COMPUTED, Rule
from pipelines.common.graph.weights import GraphWeights
from pipelines.common.ops import DOMAIN, OPERATORS


@dataclass(frozen=True)
class Lowering:
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


def apply(rule: Rule, lowering: Lowering, model: ir.Model) -> int:
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


def _rewrite_rule(rule: Rule, lowering: Lowering) -> pattern.RewriteRule:
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


class _Emitter:
    """Implements `Emitter` with the rewriter's node builder.

    Args:
        builder: The rewriter's.
        lowering: What the graph gets beside nodes.
        rule: The rule that emits.
        bound: What its pattern has found, by parameter.
    """

    def __init__(
        self, builder: Any, lowering: Lowering, rule: Rule, bound: Mapping[str, Any]
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
