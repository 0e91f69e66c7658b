"""Runs a pattern on numbers: the graph that it describes, and what its operators mean.

Every operator of the pattern becomes a node and is computed at once, in float64: a neutral one by
its torch reference, a standard one by `onnx.reference`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from pipelines.common.errors import OpPackageError
from pipelines.common.graph.pattern_trace import Node, Traced, Value
from pipelines.common.ops import DOMAIN, OPERATORS, Spec

OPSET = 20
"""Version of the standard operators in the graph."""

_HALVES = (("key", 3, 1), ("value", 4, 2))
"""The halves of the KV state: their names in a decoder's graph, and their places among the inputs
and the outputs of `Attention`."""

_PAST, _TOTAL = 5, 6
"""Places of the lengths before and after a call among the inputs of `Attention`."""

Array = NDArray[Any]


@dataclass(frozen=True)
class State:
    """One half of the KV state of a pattern with an `Attention`.

    Attributes:
        parameter: What the pattern calls it.
        read: Name of the graph's input, as in a decoder's graph.
        written: Name of the output that it comes out as.
    """

    parameter: str
    read: str
    written: str


@dataclass(frozen=True)
class Reference:
    """A pattern that was run.

    Attributes:
        model: The neutral graph. Its inputs have the names of the pattern's parameters, but for the
            KV state.
        expected: What its outputs are, by their names in the graph.
        state: The halves of the KV state of each `Attention`.
        lengths: Tokens in that state before and after, ``[batch]`` each; None without a state.
    """

    model: ir.Model
    expected: Mapping[str, Array]
    state: tuple[State, ...]
    lengths: tuple[Array, Array] | None


def run(
    pattern: Traced,
    tensors: Mapping[str, Array],
    weights: Mapping[str, Array],
    attributes: Mapping[str, Any],
) -> Reference:
    """Runs a pattern.

    Args:
        pattern: The pattern.
        tensors: Those of its parameters that are values.
        weights: Those that are weights, decoded; their shapes are fixed in the graph.
        attributes: Those that are attributes.

    Raises:
        OpPackageError: An operator of the pattern has no reference, or its shape rule is wrong.
    """
    inputs = {
        **{name: _known(name, array, _dynamic(name, array)) for name, array in tensors.items()},
        **{name: _known(name, array, array.shape) for name, array in weights.items()},
    }
    running = _Run(pattern, inputs, attributes)
    nodes = [running.apply(node) for node in pattern.nodes]
    outputs = [running.value(output) for output in pattern.outputs]
    attentions = [node for node in nodes if node.op_type == "Attention"]
    by_value: dict[ir.Value | None, tuple[str, Array]] = {
        known.value: (name, known.array) for name, known in inputs.items()
    }
    state = [s for i, node in enumerate(attentions) for s in _name_state(node, i, by_value)]
    lengths = None
    if attentions:
        _, past = by_value[attentions[0].inputs[_PAST]]
        _, total = by_value[attentions[0].inputs[_TOTAL]]
        lengths = past, total
    graph = ir.Graph(
        [known.value for known in inputs.values()],
        [known.value for known in outputs],
        nodes=nodes,
        initializers=running.constants,
        opset_imports={"": OPSET, DOMAIN: 1},
        name="pattern",
    )
    expected = {str(known.value.name): known.array for known in outputs}
    return Reference(ir.Model(graph, ir_version=10), expected, tuple(state), lengths)


def past(pattern: Traced) -> str | None:
    """The parameter that says how much is in the state before a call; None without a state."""
    for node in pattern.nodes:
        if node.operator == "Attention":
            return str(node.inputs[_PAST].name)
    return None


@dataclass(frozen=True)
class _Known:
    """A value of the graph, and what it is."""

    value: ir.Value
    array: Array


class _Run:
    """The values of a pattern, as they become known.

    Attributes:
        constants: The numbers that stand in the pattern itself.
    """

    def __init__(
        self, pattern: Traced, inputs: Mapping[str, _Known], attributes: Mapping[str, Any]
    ) -> None:
        self.constants: list[ir.Value] = []
        self._pattern = pattern
        self._inputs = inputs
        self._attributes = attributes
        self._outputs: dict[tuple[Node, int], _Known] = {}

    def value(self, value: Any) -> _Known:
        """A parameter of the pattern, an output of a node, or a number."""
        if not isinstance(value, Value):
            array = np.asarray(value)
            known = _known(f"constant.{len(self.constants)}", array, array.shape)
            single = array.astype(np.float32) if array.dtype.kind == "f" else array
            known.value.const_value = ir.tensor(single, name=known.value.name)
            self.constants.append(known.value)
            return known
        if value.node is None:
            return self._inputs[value.name]
        return self._outputs[value.node, value.index]

    def apply(self, node: Node) -> ir.Node:
        """Computes a node and makes it one of the graph."""
        inputs = [None if self._left_out(v) else self.value(v) for v in node.inputs]
        attributes = {
            name: self._attributes[value.name] if isinstance(value, Value) else value
            for name, value in node.attributes.items()
            if not self._left_out(value)
        }
        results = _compute(
            node.operator,
            [None if known is None else known.array for known in inputs],
            attributes,
            self._count(node),
        )
        place = f"{node.operator}.{len(self._outputs)}"
        outputs = [
            _known(f"{place}.{i}", result, [None] * result.ndim) for i, result in enumerate(results)
        ]
        self._outputs |= {(node, i): known for i, known in enumerate(outputs)}
        return ir.node(
            node.operator,
            [None if known is None else known.value for known in inputs],
            attributes,
            domain=DOMAIN if node.operator in OPERATORS else "",
            outputs=[known.value for known in outputs],
        )

    def _left_out(self, value: Any) -> bool:
        """Whether an example has nothing for a parameter."""
        given = self._inputs.keys() | self._attributes.keys()
        return value is None or (
            isinstance(value, Value) and value.node is None and value.name not in given
        )

    def _count(self, node: Node) -> int:
        """How many outputs of a node the pattern uses."""
        read = (value for reader in self._pattern.nodes for value in reader.inputs)
        used = [
            value.index
            for value in (*self._pattern.outputs, *read)
            if isinstance(value, Value) and value.node is node
        ]
        return 1 + max(used)


def _name_state(
    node: ir.Node, layer: int, inputs: Mapping[ir.Value | None, tuple[str, Array]]
) -> Iterator[State]:
    """Names the halves of the state of an `Attention` as in a decoder's graph."""
    for half, read, written in _HALVES:
        past, new = node.inputs[read], node.outputs[written]
        assert past is not None
        parameter, array = inputs[past]
        past.name, new.name = f"{half}.{layer}", f"new_{half}.{layer}"
        past.shape = new.shape = ir.Shape(["slots", array.shape[1], "capacity", array.shape[3]])
        yield State(parameter, past.name, new.name)


def _compute(
    operator: str, inputs: Sequence[Array | None], attributes: Mapping[str, Any], outputs: int
) -> Sequence[Array]:
    if operator in OPERATORS:
        return _neutral(operator, inputs, attributes)
    if onnx.defs.has(operator):
        return _standard(operator, inputs, attributes, outputs)
    raise OpPackageError(
        f"operator {operator} of a pattern is neither neutral nor one of ONNX's own, so there is"
        " nothing to check it against"
    )


def _neutral(
    name: str, inputs: Sequence[Array | None], attributes: Mapping[str, Any]
) -> Sequence[Array]:
    """What the reference of a neutral operator makes of numbers."""
    operator = OPERATORS[name]
    tensors = [None if x is None else torch.from_numpy(np.ascontiguousarray(x)) for x in inputs]
    places = zip(operator.tensors(attributes), tensors, strict=False)
    given = {**operator.defaults, **dict(places), **attributes}
    results = operator.reference(**given)
    specs = operator.specs(
        {name: _spec(v) if isinstance(v, torch.Tensor) else v for name, v in given.items()}
    )
    if isinstance(results, torch.Tensor):
        results = (results,)
    for result, spec in zip(results, specs, strict=True):
        if result.shape != spec.shape:
            raise OpPackageError(
                f"the shape rule of operator {name} says {[*spec.shape]}, its reference makes"
                f" {[*result.shape]}"
            )
    return [result.numpy() for result in results]


def _spec(tensor: torch.Tensor) -> Spec:
    return Spec(tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))


def _standard(
    operator: str, inputs: Sequence[Array | None], attributes: Mapping[str, Any], outputs: int
) -> Sequence[Array]:
    """What a standard ONNX operator makes of numbers."""
    names = ["" if x is None else f"x{i}" for i, x in enumerate(inputs)]
    made = [f"y{i}" for i in range(outputs)]
    node = onnx.helper.make_node(operator, names, made, **attributes)
    feeds = {name: x for name, x in zip(names, inputs, strict=True) if x is not None}
    return list(ReferenceEvaluator(node).run(None, feeds))


def _known(name: str, array: Array, shape: Sequence[int | str | None]) -> _Known:
    """A value of the graph, which calculates in float32, and the same in float64."""
    kind = np.dtype(np.float32) if array.dtype.kind == "f" else array.dtype
    value = ir.Value(
        name=name, shape=ir.Shape(shape), type=ir.TensorType(ir.DataType.from_numpy(kind))
    )
    return _Known(value, array.astype(np.float64) if array.dtype.kind == "f" else array)


def _dynamic(name: str, array: Array) -> list[int | str]:
    """Only the last dimension is fixed in a decoder's graph."""
    return [*(f"{name}.{axis}" for axis in range(array.ndim - 1)), *array.shape[-1:]]
