"""Turns what is left of a float32 graph to another type of activations."""

from __future__ import annotations

from collections.abc import Iterable

import ml_dtypes
import numpy as np
import onnx_ir as ir

_NUMPY = {ir.DataType.FLOAT16: np.float16, ir.DataType.BFLOAT16: ml_dtypes.bfloat16}


def calculate_in(graph: ir.Graph, kind: ir.DataType, arrays: Iterable[ir.Value]) -> None:
    """Has the standard operators of a lowered graph calculate in `kind`.

    Rules have emitted nodes whose inputs are of that type. What is left of the neutral graph takes
    the type of its inputs; only constants and casts name one, and those in the domain `TYPED` keep
    it. What the network gives is cast to float32, what it keeps is not.

    Args:
        graph: With nothing neutral in it.
        kind: Float16 or bfloat16.
        arrays: Inputs of the graph, of which those in float32 come to be in `kind`.
    """
    for value in arrays:
        if value.dtype == ir.DataType.FLOAT:
            value.dtype = kind
    outputs = set(graph.outputs)
    kept = {f"new_{value.name}" for value in graph.inputs}
    for value in graph.initializers.values():
        if value.dtype == ir.DataType.FLOAT and value.const_value is not None:
            _retype(value, kind)
    for node in graph:
        operator = node.op_identifier()[:2]
        if operator == ("", "Constant"):
            for name in ("value", "value_float", "value_floats"):
                _retype_constant(node, name, kind)
        if operator == ("", "Cast") and node.attributes["to"].as_int() == ir.DataType.FLOAT:
            node.attributes["to"] = ir.AttrInt64("to", kind)
        for value in node.outputs:
            if value not in outputs:
                value.type = value.shape = None  # the runtime infers them
    for index, output in enumerate(graph.outputs):
        if output.name not in kept and output.dtype == ir.DataType.FLOAT:
            graph.outputs[index] = _in_float32(graph, output, kind)


def _retype(value: ir.Value, kind: ir.DataType) -> None:
    assert value.const_value is not None
    array = value.const_value.numpy().astype(_NUMPY[kind])
    value.const_value = ir.tensor(array, name=value.name)
    value.dtype = kind


def _retype_constant(node: ir.Node, name: str, kind: ir.DataType) -> None:
    if name not in node.attributes:
        return
    attribute = node.attributes[name]
    array = np.asarray(attribute.value.numpy() if name == "value" else attribute.value)
    if array.dtype.kind != "f":
        return
    del node.attributes[name]
    node.attributes["value"] = ir.AttrTensor("value", ir.tensor(array.astype(_NUMPY[kind])))


def _in_float32(graph: ir.Graph, output: ir.Value, kind: ir.DataType) -> ir.Value:
    """An output of the same name, cast; what is cast gets another."""
    name = output.name
    output.name, output.type, output.shape = f"{name}.{kind.name.lower()}", None, None
    cast = ir.node("Cast", [output], {"to": ir.DataType.FLOAT.value})
    made = cast.outputs[0]
    made.name, made.type, made.shape = name, ir.TensorType(ir.DataType.FLOAT), None
    producer = output.producer()
    assert producer is not None
    graph.insert_after(producer, cast)
    return made
