"""What a graph consists of: its operators, and what they read and compute for one token.

Only what grows with the model is counted. Bytes are those of weights, of an embedding one row, and
of the KV state of the context. FLOPs are those of products, two for each element of a matrix, and
of attention; norms, activations, rotations and sums are left out.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir

from pipelines.common.encodings import Encoding
from pipelines.common.graph.rules import LoweredGraph
from pipelines.common.ops import DOMAIN
from pipelines.common.view.parts import find_parts, is_state

RUNNER = "(the runner)"
"""Stands where an operator's name does, for weights that are read outside of the graph."""

_SHAPES = ("Shape", "Size")
"""Operators that look at the shape of what they read, and not at its content."""


@dataclass(frozen=True)
class Cost:
    """What one token takes.

    Attributes:
        weights: Bytes of weights to read.
        state: Bytes of the KV state to read.
        flops: Floating-point operations; only those of neutral operators are known.
    """

    weights: int = 0
    state: int = 0
    flops: int = 0

    @property
    def bytes(self) -> int:
        """All bytes to read."""
        return self.weights + self.state

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.weights + other.weights, self.state + other.state, self.flops + other.flops
        )

    def __mul__(self, times: int) -> Cost:
        return Cost(self.weights * times, self.state * times, self.flops * times)


@dataclass(frozen=True)
class Tensor:
    """A weight, or what has been made of it for a target.

    Attributes:
        parameter: The weight.
        encoding: Name of what it runs in.
        layout: How it is laid out for the target, see `LoweredWeight.layout`; empty before
            lowering.
        shape: Its shape.
        nbytes: Bytes of all of it.
    """

    parameter: str
    encoding: str
    layout: str
    shape: tuple[int, ...]
    nbytes: int


@dataclass(frozen=True)
class Node:
    """An operator of a graph.

    Attributes:
        operator: Its name, behind its domain and a colon if it is not one of ONNX's own.
        part: Number of the part that it belongs to, see `pipelines.common.view.parts`.
        inputs: Names of what it reads, weights included.
        outputs: Names of what it makes.
        tensors: The weights that it reads.
        cost: What it takes; a tensor that several nodes read counts for the first.
    """

    operator: str
    part: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    tensors: tuple[Tensor, ...]
    cost: Cost


@dataclass(frozen=True)
class Anatomy:
    """A graph's nodes, in an order in which they can run.

    Attributes:
        nodes: The nodes.
        layers: How many layers the network has.
        inputs: Names of what the graph is fed besides weights.
    """

    nodes: tuple[Node, ...]
    layers: int
    inputs: tuple[str, ...]

    @property
    def cost(self) -> Cost:
        """What a token takes in all."""
        return _sum(node.cost for node in self.nodes)

    def counts(self) -> Counter[str]:
        """How many nodes there are of each operator."""
        return Counter(node.operator for node in self.nodes)

    def cost_of_operator(self, operator: str) -> Cost:
        """What a token takes in all nodes of an operator."""
        return _sum(node.cost for node in self.nodes if node.operator == operator)

    def cost_of_part(self, part: int) -> Cost:
        """What a token takes in a part."""
        return _sum(node.cost for node in self.nodes if node.part == part)


def alike(graphs: Sequence[Anatomy]) -> list[tuple[int, ...]]:
    """The numbers of all parts, of layers those together that take the same in each graph."""
    layers = graphs[0].layers
    groups: dict[tuple[Cost, ...], list[int]] = {}
    for part in range(1, layers + 1):
        groups.setdefault(tuple(graph.cost_of_part(part) for graph in graphs), []).append(part)
    return [(0,), *map(tuple, groups.values()), (layers + 1,)]


def of_neutral(
    model: ir.Model, encodings: Mapping[str, Encoding], layers: int, context: int
) -> Anatomy:
    """The anatomy of a neutral graph; its KV state is float32, as the references keep it.

    Args:
        model: The graph.
        encodings: What each parameter runs in.
        layers: How many layers the network has.
        context: Tokens in the KV state.
    """
    tensors, state = {}, 0
    for value in model.graph.inputs:
        assert value.name is not None and value.shape is not None
        if value.name in encodings:
            encoding, shape = encodings[value.name], value.shape.numpy()
            nbytes = math.prod(shape[:-1]) * encoding.row_bytes(shape[-1])
            tensors[value.name] = Tensor(value.name, encoding.name, "", shape, nbytes)
        elif is_state(value.name):
            _, kv_heads, _, width = value.shape
            assert isinstance(kv_heads, int) and isinstance(width, int)
            state += kv_heads * width * np.dtype(np.float32).itemsize
    return _Reading(model.graph, tensors, state, layers, context).anatomy()


def of_lowered(graph: LoweredGraph, layers: int, context: int) -> Anatomy:
    """The anatomy of a lowered graph, its weights and KV state as the target keeps them.

    What a runtime makes of constants when it packs them is not known here.

    Args:
        graph: The graph.
        layers: How many layers the network has.
        context: Tokens in the KV state.
    """
    model = ir.from_proto(onnx.load_from_string(graph.model))
    tensors, host = {}, []
    for weight in graph.weights:
        tensor = Tensor(
            weight.parameter, weight.encoding, weight.layout, weight.shape, weight.nbytes
        )
        if weight.host:
            host.append(_looked_up(tensor))
        else:
            tensors[weight.name] = tensor
    found = _Reading(model.graph, tensors, graph.state_bytes, layers, context).anatomy()
    return Anatomy((*host, *found.nodes), layers, found.inputs)


def _looked_up(tensor: Tensor) -> Node:
    """A weight that the runner looks up rows in."""
    cost = Cost(tensor.nbytes // tensor.shape[0])
    return Node(RUNNER, 0, ("tokens",), (), (tensor,), cost)


class _Reading:
    """Goes over a graph, and counts a tensor for the first node that reads it.

    Args:
        graph: The graph.
        tensors: Its weights, by name.
        state: Bytes of the KV state that a token takes in all layers.
        layers: How many layers the network has.
        context: Tokens in the KV state.
    """

    def __init__(
        self, graph: ir.Graph, tensors: Mapping[str, Tensor], state: int, layers: int, context: int
    ) -> None:
        self._graph = graph
        self._tensors = tensors
        self._layers = layers
        self._context = context
        self._ids = {
            value.name
            for value in graph.inputs
            if value.dtype == ir.DataType.INT64 and value.name not in tensors
        }
        halves = sum(is_state(value.name) for value in graph.inputs)
        self._half = state * context // max(1, halves)
        self._counted: set[str] = set()

    def anatomy(self) -> Anatomy:
        parameters = {name: tensor.parameter for name, tensor in self._tensors.items()}
        parts = find_parts(self._graph, parameters, self._layers)
        nodes = tuple(self._node(node, parts[node]) for node in self._graph)
        fed = (name for name in _names(self._graph.inputs) if name not in self._tensors)
        return Anatomy(nodes, self._layers, tuple(fed))

    def _node(self, node: ir.Node, part: int) -> Node:
        inputs = _names(node.inputs)
        new = [] if node.op_type in _SHAPES else [n for n in inputs if n not in self._counted]
        self._counted.update(new)
        # Of a table that ids go into, one row is read; of experts, those that are used.
        used, count = _experts(node)
        weights = sum(
            tensor.nbytes * used // (count if self._ids.isdisjoint(inputs) else tensor.shape[0])
            for name in new
            if (tensor := self._tensors.get(name))
        )
        return Node(
            f"{node.domain}:{node.op_type}" if node.domain else node.op_type,
            part,
            inputs,
            _names(node.outputs),
            tuple(self._tensors[name] for name in inputs if name in self._tensors),
            Cost(weights, self._half * sum(map(is_state, new)), self._flops(node)),
        )

    def _flops(self, node: ir.Node) -> int:
        if node.domain != DOMAIN:
            return 0
        # A product with each key that is seen, and with each value.
        if node.op_type in ("Attention", "SelfAttention"):
            width = sum(_width(value) for value in (node.inputs[0], node.outputs[0]))
            window = node.attributes.get("window")
            return 2 * width * (min(window.as_int(), self._context) if window else self._context)
        inputs = _names(node.inputs)
        shapes = [self._tensors[name].shape for name in inputs if name in self._tensors]
        used, count = _experts(node)
        if not self._ids.isdisjoint(inputs):
            return 0
        matrices = [shape for shape in shapes if len(shape) > 1]
        return sum(2 * math.prod(shape) * used // count for shape in matrices)


def _experts(node: ir.Node) -> tuple[int, int]:
    """How many experts a node has a token use, and of how many; all others are one of one."""
    if node.op_type != "Experts":
        return 1, 1
    if "experts" in node.attributes:  # a native one, whose stacks are rows of bytes
        return node.attributes["used"].as_int(), node.attributes["experts"].as_int()
    stack = node.inputs[2]
    assert stack is not None and stack.shape is not None
    return node.attributes["used"].as_int(), stack.shape.numpy()[0]


def _width(value: ir.Value | None) -> int:
    """A value's last dimension."""
    assert value is not None and value.shape is not None
    width = value.shape[-1]
    assert isinstance(width, int)
    return width


def _names(values: Iterable[ir.Value | None]) -> tuple[str, ...]:
    return tuple(value.name for value in values if value is not None and value.name is not None)


def _sum(costs: Iterable[Cost]) -> Cost:
    return sum(costs, Cost())
