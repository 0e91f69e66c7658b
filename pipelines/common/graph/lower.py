"""Stage 2: rewrites the neutral graph into what a target runs, rule by rule.

Rules are tried in order, each over the whole graph, so an earlier rule sees a pattern before a
later one can swallow part of it.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
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

from pipelines.common.errors import LoweringError
from pipelines.common.graph.rules import PLACEHOLDER, LoweredGraph, LoweredWeight, Rule
from pipelines.common.ops import DOMAIN, OPERATORS
from pipelines.common.weights.encodings import Encoding


def lower(
    model: ir.Model, rules: Sequence[Rule], encodings: Mapping[str, Encoding], target: str
) -> LoweredGraph:
    """Rewrites `model`, which is used up.

    Args:
        model: The neutral graph.
        rules: Those of op packages first, then the target's.
        encodings: What each parameter runs in.
        target: Name of the target, for messages.

    Raises:
        LoweringError: No rule takes an operator.
    """
    weights = _Weights(model.graph, encodings)
    for rule in rules:
        _rewrite_rule(rule, weights).apply_to_model(model)
    _check_lowered(model.graph, encodings, target)
    for clean in (
        CommonSubexpressionEliminationPass(),
        RemoveUnusedNodesPass(),
        ClearMetadataAndDocStringPass(),
    ):
        model = clean(model).model
    lowered = weights.install(model.graph)
    model.graph.opset_imports.pop(DOMAIN, None)
    return LoweredGraph(ir.to_proto(model).SerializeToString(), lowered)


class _Weights:
    """The parameters of the neutral graph and the tensors that rules make of them."""

    def __init__(self, graph: ir.Graph, encodings: Mapping[str, Encoding]) -> None:
        self.encodings = encodings
        self.parameters = {value for value in graph.inputs if value.name in encodings}
        self.made: dict[str, tuple[ir.Value, LoweredWeight]] = {}

    def make(
        self, value: ir.Value, layout: str, shape: tuple[int, ...], dtype: DTypeLike, constant: bool
    ) -> ir.Value:
        """The tensor of that layout, the same one for every rule that asks."""
        assert value.name is not None
        name = f"{value.name}:{layout}"
        if name not in self.made:
            kind = np.dtype(dtype)
            tensor = ir.Value(
                name=name,
                shape=ir.Shape(shape),
                type=ir.TensorType(ir.DataType.from_numpy(kind)),
            )
            described = LoweredWeight(name, value.name, layout, kind.name, shape, constant)
            self.made[name] = tensor, described
        return self.made[name][0]

    def install(self, graph: ir.Graph) -> tuple[LoweredWeight, ...]:
        """Puts the tensors that are used into the graph in the place of the parameters."""
        for value in list(graph.inputs):
            if value in self.parameters:
                graph.inputs.remove(value)
        used = [made for made in self.made.values() if made[0].uses()]
        for value, weight in used:
            if weight.constant:
                # Only declared: the runner supplies it, and nothing is ever read from that file.
                assert value.dtype is not None and value.shape is not None and value.name
                value.const_value = ir.ExternalTensor(
                    PLACEHOLDER, 0, weight.nbytes, value.dtype, shape=value.shape, name=value.name
                )
                graph.initializers.add(value)
            else:
                graph.inputs.append(value)
        return tuple(weight for _, weight in used)


class _Emitter:
    """The rewriter's node builder, and the weights."""

    def __init__(self, builder: Any, weights: _Weights) -> None:
        self._builder = builder
        self._weights = weights

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
        return self._weights.make(value, layout, shape, dtype, constant)

    def encoding(self, value: ir.Value) -> str:
        assert value.name is not None
        return self._weights.encodings[value.name].name

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


def _rewrite_rule(rule: Rule, weights: _Weights) -> pattern.RewriteRule:
    @functools.wraps(rule.pattern)
    def look_for(op: Any, *values: Any, **attributes: Any) -> Any:
        return rule.pattern(_NeutralBuilder(op), *values, **attributes)

    def applies(_context: Any, **bound: Any) -> bool:
        for parameter, encodings in rule.encodings.items():
            weight = bound[parameter]
            if (
                weight not in weights.parameters
                or weights.encodings[weight.name].name not in encodings
            ):
                return False
        return True

    def emit(op: Any, **bound: Any) -> Any:
        return rule.emit(_Emitter(op, weights), **bound)

    return pattern.RewriteRule(look_for, emit, applies, name=rule.name)


def _check_lowered(graph: ir.Graph, encodings: Mapping[str, Encoding], target: str) -> None:
    left = [node for node in graph if node.domain == DOMAIN]
    if left:
        node = left[0]
        weight = next(
            (value.name for value in node.inputs if value is not None and value.name in encodings),
            None,
        )
        of = f" with a weight in {encodings[weight].name} ({weight})" if weight else ""
        raise LoweringError(
            f"target {target} has no rule for operator {node.op_type}{of}; a target or an op"
            f" package has to provide one ({len(left)} such nodes)"
        )
