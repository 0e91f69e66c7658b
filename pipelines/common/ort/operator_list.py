"""Makes sure that a provider has kernels for a graph, before anybody takes it to the device.

What a provider has is kept as data, since it need not be here: a JSON file with the ``source`` that
it was read from, whether it is the ``whole`` list, and ``operators``: by name, those of other
domains as ``com.microsoft.MatMulNBits``. An operator has either a note, or kernels with the
versions ``since`` and ``until`` of the operator that they are for, and the ``types`` that each of
its type parameters can have.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.common.errors import LoweringError
from pipelines.common.graph.rules import LoweredGraph
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


def check_operators(path: Path, target: str, graph: LoweredGraph) -> None:
    """Makes sure that a provider has a kernel for every node, those within functions too.

    Nodes of domains that the runtime does not know are op packages' own affair. What is computed of
    constants and sizes alone is never on the device.

    Args:
        path: The provider's list.
        target: Name of the target, for messages.
        graph: The graph.

    Raises:
        LoweringError: It has not; the first such node is named, and who has made it.
    """
    import onnx

    model = onnx.load_from_string(graph.model)
    known = json.loads(path.read_text(encoding="utf-8"))
    kernels = {name: _kernels(entries) for name, entries in known["operators"].items()}
    search = _Search(model, kernels, whole=known["whole"])
    if not search.lacking:
        return
    name, what = search.lacking[0]
    package, _, rule = name.partition("/")
    ours = package not in {taken.package for taken in graph.taken}
    maker = f"node {name}" if ours else f"which rule '{rule}' of op package '{package}' emits"
    count = len(search.lacking)
    raise LoweringError(
        f"target {target} has no kernel for {what}, {maker}"
        f" ({f'{count} such nodes' if count > 1 else 'one such node'})"
    )


class _Search:
    """Looks through a graph for nodes that have no kernel.

    Attributes:
        lacking: Name of each, and what it is: operator, version and types. Nodes of a function have
            the name of the one that calls it.
    """

    def __init__(
        self, model: onnx.ModelProto, kernels: Mapping[str, Sequence[Kernel]], *, whole: bool
    ) -> None:
        import onnx

        self.lacking: list[tuple[str, str]] = []
        self._kernels = kernels
        self._whole = whole
        self._schemas = _schemas()
        self._domains = {domain for domain, _ in self._schemas}
        self._functions = {(made.domain, made.name): made for made in model.functions}
        graph = model.graph
        types = {value.name: value.type.tensor_type.elem_type for value in graph.input}
        types |= {tensor.name: tensor.data_type for tensor in graph.initializer}
        values = {name: _type_name(number) for name, number in types.items()}
        # What is external are weights, which are never computed with beforehand.
        external = onnx.TensorProto.EXTERNAL
        early = {made.name for made in graph.initializer if made.data_location != external}
        self._visit(graph.node, model.opset_import, values, early)

    def _visit(
        self,
        nodes: Iterable[onnx.NodeProto],
        opsets: Iterable[onnx.OperatorSetIdProto],
        values: dict[str, str],
        early: set[str],
        caller: str = "",
    ) -> None:
        """Looks at nodes in their order.

        Args:
            nodes: Those of the graph, or of a function.
            opsets: Versions of their operators.
            values: Element types of what they can read, to which those of their outputs are added.
            early: Which of these are constants and sizes, and what is computed of them.
            caller: Name of the node that calls the function.
        """
        versions = {opset.domain: opset.version for opset in opsets}
        for node in nodes:
            inputs = {name for name in node.input if name}
            if node.op_type == "CastLike":  # of its second input it takes nothing but the type
                inputs.discard(node.input[1])
            if node.op_type in ("Constant", "Shape", "Size") or (inputs and inputs <= early):
                early.update(node.output)
            if function := self._functions.get((node.domain, node.op_type)):
                pairs = list(zip(function.input, node.input, strict=False))
                inner = {formal: values[given] for formal, given in pairs if given in values}
                known = {formal for formal, given in pairs if given in early}
                name = caller or node.name
                self._visit(function.node, function.opset_import, inner, known, name)
                results = zip(function.output, node.output, strict=False)
                values |= {given: inner[formal] for formal, given in results if formal in inner}
            elif node.domain in self._domains:
                what = self._describe(node, versions[node.domain], values)
                if what and not early.issuperset(node.output):
                    self.lacking.append((caller or node.name, what))

    def _describe(self, node: onnx.NodeProto, opset: int, values: dict[str, str]) -> str | None:
        """What a node is, if there is no kernel for it; its outputs are added to the values."""
        name = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
        schemas = self._schemas.get((node.domain, node.op_type), {})
        version = max((since for since in schemas if since <= opset), default=0)
        if not version:
            return name
        types, fits = _infer(node, schemas[version], values)
        kernels = self._kernels.get(name)
        if kernels is None and not (self._whole and _is_primitive(node, version)):
            return None
        if fits and any(kernel.takes(version, types) for kernel in kernels or ()):
            return None
        told = ", ".join(f"{parameter} {kind}" for parameter, kind in types.items())
        return f"{name}-{version} ({told})"


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


def _is_primitive(node: onnx.NodeProto, version: int) -> bool:
    """Whether the runtime cannot put other operators in a node's place."""
    import onnx

    if not onnx.defs.has(node.op_type, node.domain):
        return True
    schema: Any = onnx.defs.get_schema(node.op_type, version, node.domain)
    return not (schema.has_function or schema.has_context_dependent_function)


def _infer(
    node: onnx.NodeProto, schema: Any, values: dict[str, str]
) -> tuple[dict[str, str], bool]:
    """A node's type parameters, as far as they are known; its outputs are added to the values.

    Returns:
        The parameters, and whether all its inputs go together. One that is of two types has both.
    """
    types = {
        constraint.type_param_str: _element(constraint.allowed_type_strs[0])
        for constraint in schema.type_constraints
        if len(constraint.allowed_type_strs) == 1
    }
    fits = True
    for index, name in enumerate(node.input):
        formal = schema.inputs[min(index, len(schema.inputs) - 1)]
        kind = values.get(name)
        if kind is None or not formal.isHomogeneous:
            continue
        if types.setdefault(formal.typeStr, kind) != kind:
            types[formal.typeStr] += f" and {kind}"
            fits = False
    named = _named_type(node)
    for output, formal in zip(node.output, schema.outputs, strict=False):
        if named is not None:
            types[formal.typeStr] = named
        if output and formal.typeStr in types:
            values[output] = types[formal.typeStr]
    return types, fits


def _named_type(node: onnx.NodeProto) -> str | None:
    """The type of an output that an attribute names, or has."""
    for attribute in node.attribute:
        if attribute.ref_attr_name:
            continue  # the caller's, of a function
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
