"""What a provider has kernels for, kept as data, and what a graph has that is not among it.

A list is a JSON file with the ``source`` that it was read from, and ``operators``: by name, those
of other domains as ``com.microsoft.MatMulNBits``. An operator has either a note, or kernels with
the versions ``since`` and ``until`` of the operator that they are for, and the ``types`` that each
of its type parameters can have.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.common.ort import onnxruntime

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class Kernel:
    """An implementation of an operator.

    Attributes:
        since: The first version of the operator that it is for.
        until: The last one; None for no end.
        types: Element types by type parameter; a parameter that is not named can be anything.
    """

    since: int = 1
    until: int | None = None
    types: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def takes(self, version: int, types: Mapping[str, str]) -> bool:
        """Whether it is for a version of the operator with these element types."""
        return self.since <= version <= (self.until or version) and all(
            types.get(parameter) in (None, *known) for parameter, known in self.types.items()
        )


@dataclass(frozen=True)
class OperatorList:
    """The operators of one provider.

    Attributes:
        source: What they were read from, and which version of it.
        kernels: Their kernels, by name.
    """

    source: str
    kernels: Mapping[str, Sequence[Kernel]]

    @classmethod
    def read(cls, path: Path) -> OperatorList:
        """Reads a list that comes with the project."""
        content = json.loads(path.read_text(encoding="utf-8"))
        kernels = {name: _kernels(known) for name, known in content["operators"].items()}
        return cls(content["source"], kernels)

    def lacks(self, model: bytes) -> list[str]:
        """Which nodes of a graph have no kernel on the list, a line for each.

        Args:
            model: The serialized ONNX model; it has no functions of its own.

        Raises:
            KeyError: An operator is none of ONNX's or ONNX Runtime's.
            ValueError: A node has inputs of types that do not go together.
        """
        import onnx

        proto = onnx.load_from_string(model)
        opsets = {opset.domain: opset.version for opset in proto.opset_import}
        schemas = _schemas()
        values = _declared(proto.graph)
        lines = []
        for node in proto.graph.node:
            versions = schemas[node.domain, node.op_type]
            version = max(since for since in versions if since <= opsets[node.domain])
            types = _infer(node, versions[version], values)
            if node.op_type == "Constant":
                continue  # a tensor before any provider is asked
            name = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
            if not any(kernel.takes(version, types) for kernel in self.kernels.get(name, ())):
                told = ", ".join(f"{parameter} {kind}" for parameter, kind in types.items())
                lines.append(f"{node.name}: {name}-{version} ({told})")
        return lines


def _kernels(known: str | Sequence[Mapping[str, Any]]) -> list[Kernel]:
    if isinstance(known, str):
        return [Kernel()]
    return [
        Kernel(
            entry["since"],
            entry.get("until"),
            {parameter: frozenset(types.split()) for parameter, types in entry["types"].items()},
        )
        for entry in known
    ]


def _schemas() -> dict[tuple[str, str], dict[int, Any]]:
    """What the runtime says of its operators: by domain and name, and by version."""
    schemas: dict[tuple[str, str], dict[int, Any]] = {}
    for schema in onnxruntime().capi.onnxruntime_pybind11_state.get_all_operator_schema():
        schemas.setdefault((schema.domain, schema.name), {})[schema.since_version] = schema
    return schemas


def _declared(graph: onnx.GraphProto) -> dict[str, str]:
    """Element types of a graph's inputs and constants, by name."""
    types = {value.name: value.type.tensor_type.elem_type for value in graph.input}
    types |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    return {name: _type_name(number) for name, number in types.items()}


def _infer(node: onnx.NodeProto, schema: Any, values: dict[str, str]) -> dict[str, str]:
    """What a node's type parameters are; its outputs are added to the values."""
    types = {
        constraint.type_param_str: _element(constraint.allowed_type_strs[0])
        for constraint in schema.type_constraints
        if len(constraint.allowed_type_strs) == 1
    }
    for index, name in enumerate(node.input):
        parameter = schema.inputs[min(index, len(schema.inputs) - 1)].typeStr
        if name and types.setdefault(parameter, values[name]) != values[name]:
            raise ValueError(
                f"{node.name}: {node.op_type} of {types[parameter]} and of {values[name]} ({name})"
            )
    named = _named_type(node)
    for output, formal in zip(node.output, schema.outputs, strict=False):
        if named is not None:
            types[formal.typeStr] = named
        if output and formal.typeStr in types:
            values[output] = types[formal.typeStr]
    return types


def _named_type(node: onnx.NodeProto) -> str | None:
    """The type of an output that an attribute names, or has."""
    for attribute in node.attribute:
        match node.op_type, attribute.name:
            case "Cast", "to":
                return _type_name(attribute.i)
            case (("Constant" | "ConstantOfShape"), "value"):
                return _type_name(attribute.t.data_type)
            case "Constant", ("value_int" | "value_ints"):
                return "int64"
            case "Constant", ("value_float" | "value_floats"):
                return "float"
    return None


def _type_name(number: int) -> str:
    """A `TensorProto.DataType` as lists have it."""
    import onnx

    return onnx.TensorProto.DataType.Name(number).lower()


def _element(tensor: str) -> str:
    """The element type of ``tensor(float)``."""
    return tensor.removeprefix("tensor(").removesuffix(")")
