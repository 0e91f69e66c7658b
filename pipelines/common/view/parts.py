"""Which part of a network each node of its graph belongs to.

Parts are numbered as a token passes them: 0 is what comes before the layers (the embedding), 1 to
n are the layers, n + 1 is what comes after them (the output). Weights tell them apart, of which
only the prefix ``layers.N.`` of a layer's is known, and the names of the network's inputs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import onnx_ir as ir

_LAYER = re.compile(r"layers\.(?P<layer>\d+)\.")
_STATE = re.compile(r"(key|value)\.(?P<layer>\d+)")


def is_state(name: str | None) -> bool:
    """Whether a graph's input of that name is a half of the KV state."""
    return _STATE.fullmatch(name or "") is not None


def count_layers(parameters: Iterable[str]) -> int:
    """How many layers a network has.

    Args:
        parameters: Names of its parameters.
    """
    found = (_LAYER.match(name) for name in parameters)
    return max((1 + int(match["layer"]) for match in found if match), default=0)


def find_parts(graph: ir.Graph, parameters: Mapping[str, str], layers: int) -> dict[ir.Node, int]:
    """The part that each node belongs to.

    A node belongs to the last part that anything it reads belongs to. What comes after the weights
    of a layer is that layer's as far as the fewest values go on from it, which is where the
    residual stream is all that does. What no token goes into, as masks and constants, belongs to
    the first part that reads it.

    Args:
        graph: The graph.
        parameters: The weights that its inputs and initializers are, or are made of, by name.
        layers: How many layers the network has.
    """
    end = layers + 1
    known: dict[ir.Value | None, int] = {}
    weights: set[ir.Value | None] = set()
    for value in (*graph.inputs, *graph.initializers.values()):
        name = value.name or ""
        if name in parameters:
            weights.add(value)
        if found := _LAYER.match(parameters.get(name, "")) or _STATE.fullmatch(name):
            known[value] = 1 + int(found["layer"])
        elif name in ("tokens", "wanted"):
            known[value] = {"tokens": 0, "wanted": end}[name]
    fixed = {
        node: max(reached)
        for node in graph
        if (reached := [known[value] for value in node.inputs if value in known])
    }
    # Weights of no layer are read before all layers or after them.
    order = {node: number for number, node in enumerate(graph)}
    inside = [order[node] for node, part in fixed.items() if 0 < part < end]
    first, last = min(inside, default=len(order)), max(inside, default=-1)
    parts: dict[ir.Node, int] = {}
    for node in graph:
        reached = [known[value] for value in node.inputs if value in known]
        if not first <= order[node] <= last and not weights.isdisjoint(node.inputs):
            reached.append(end if order[node] > last else 0)
        if reached:
            parts[node] = max(reached)
            known.update(dict.fromkeys(node.outputs, parts[node]))
    for part in range(1, end):
        _end_layer(part, parts, fixed)
    for node in reversed(graph):
        if node not in parts:
            parts[node] = min((parts[reader] for reader in _readers(node)), default=0)
    return parts


def _end_layer(part: int, parts: dict[ir.Node, int], fixed: Mapping[ir.Node, int]) -> None:
    """Moves nodes at the end of a layer that begin the next part to that part."""
    members = [node for node, its in parts.items() if its == part]
    last = max((i for i, node in enumerate(members) if fixed.get(node) == part), default=-1)
    tail = members[last + 1 :]
    inside = {node for node, its in parts.items() if its <= part}.difference(tail)
    going_on = [_values_to_others(inside, parts)]
    for node in tail:
        inside.add(node)
        going_on.append(_values_to_others(inside, parts))
    for node in tail[going_on.index(min(going_on)) :]:
        parts[node] = part + 1


def _values_to_others(inside: set[ir.Node], parts: Mapping[ir.Node, int]) -> int:
    """How many values of some nodes are read by nodes outside, of those that a token goes into."""
    return sum(
        any(use.node in parts and use.node not in inside for use in value.uses())
        for node in inside
        for value in node.outputs
    )


def _readers(node: ir.Node) -> Iterable[ir.Node]:
    return (use.node for value in node.outputs for use in value.uses())
