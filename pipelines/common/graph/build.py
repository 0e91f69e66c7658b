"""Stage 1: writes a network down as the neutral graph, by running it on values of a graph.

The graph's inputs are those that the network declares, followed by its parameters under their own
names; no weight is read or made up. Its nodes are neutral operators and the standard ONNX operators
of what the network calculates between them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir

from pipelines.common.nn.network import Network
from pipelines.common.ops import DOMAIN
from pipelines.common.ops.value import Node, Recording, Spec, Value

OPSET = 20
"""Version of the standard operators."""


def build(network: Network) -> ir.Model:
    """The neutral graph of a network; the sizes that have names stay dynamic."""
    recording = Recording()
    arguments = {name: recording.value(spec) for name, spec in network.interface.inputs().items()}
    parameters = {
        name: recording.value(Spec(parameter.shape))
        for name, parameter in network.parameters().items()
    }
    results = network.bind(parameters)(arguments)
    network.interface.check_results({name: value.shape for name, value in results.items()})
    return to_model(recording, {**arguments, **parameters}, results)


def to_model(
    recording: Recording, given: Mapping[str, Value], results: Mapping[str, Value]
) -> ir.Model:
    """The ONNX model of what was recorded.

    Args:
        recording: The nodes.
        given: The graph's inputs by name.
        results: Its outputs by name.
    """
    made = {value: _made(value.spec, name) for name, value in given.items()}
    nodes = [_node(node, made, number) for number, node in enumerate(recording.nodes)]
    graph_inputs = list(made.values())[: len(given)]
    outputs = []
    for name, value in results.items():
        output = made[value]
        if output in graph_inputs or output in outputs:  # it has a name of its own already
            nodes.append(ir.node("Identity", [output], outputs=[_made(value.spec)]))
            output = nodes[-1].outputs[0]
        output.name = name
        outputs.append(output)
    graph = ir.Graph(
        graph_inputs,
        outputs,
        nodes=nodes,
        opset_imports={"": OPSET, DOMAIN: 1},
        name="network",
    )
    return ir.Model(graph, ir_version=10)


def _node(node: Node, made: dict[Value, ir.Value], number: int) -> ir.Node:
    outputs = [_made(value.spec) for value in node.outputs]
    made.update(zip(node.outputs, outputs, strict=True))
    return ir.node(
        node.operator,
        [None if value is None else made[value] for value in node.inputs],
        {name: _attribute(value) for name, value in node.attributes.items()},
        domain=node.domain,
        outputs=outputs,
        name=f"{node.operator}.{number}",
    )


def _attribute(value: Any) -> Any:
    return ir.tensor(value) if isinstance(value, np.ndarray) else value


def _made(spec: Spec, name: str | None = None) -> ir.Value:
    kind = ir.TensorType(ir.DataType.from_numpy(np.dtype(spec.dtype)))
    return ir.Value(name=name, shape=ir.Shape(spec.shape), type=kind)
