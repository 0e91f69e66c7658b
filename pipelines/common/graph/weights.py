"""The weights of a graph, and the tensors that rules have made of them."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import DTypeLike

from pipelines.common.encodings import BF16, F16, F32, Encoding
from pipelines.common.errors import LoweringError
from pipelines.common.graph.rules import COMPUTED, LAYOUTS, PLACEHOLDER, LoweredWeight

_FLOATS = {"float32": F32, "float16": F16, "bfloat16": BF16}


class GraphWeights:
    """The parameters of a neutral graph, and the tensors that stand in their place.

    Args:
        graph: The graph.
        encodings: What each parameter runs in.
    """

    def __init__(self, graph: ir.Graph, encodings: Mapping[str, Encoding]) -> None:
        self.encodings = encodings
        self._graph = graph
        self._parameters = {value for value in graph.inputs if value.name in encodings}
        self._made: dict[str, tuple[ir.Value, LoweredWeight]] = {}
        self._matrices: dict[ir.Value, list[ir.Value]] = {}
        self._parts: dict[ir.Value, tuple[ir.Value, tuple[int, int]]] = {}
        """Of each matrix of a stack, the stack and the rows in it."""

    def encoding(self, value: ir.Value) -> Encoding | None:
        """What a weight runs in; None for a value that is none."""
        whole, _ = self._parts.get(value, (value, None))
        if whole not in self._parameters or whole.name is None:
            return None
        return self.encodings[whole.name]

    def matrices(self, value: ir.Value) -> list[ir.Value]:
        """The matrices of a weight ``[count, rows, columns]``, the same ones for every rule."""
        if value not in self._matrices:
            assert value.shape is not None and value.dtype is not None
            count, rows, columns = value.shape.numpy()
            self._matrices[value] = [
                _tensor(f"{value.name}[{i}]", (rows, columns), value.dtype.numpy())
                for i in range(count)
            ]
            for i, matrix in enumerate(self._matrices[value]):
                self._parts[matrix] = value, (i * rows, (i + 1) * rows)
        return self._matrices[value]

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
            TypeError: The layout is no name, or the shape no numbers.
            ValueError: The value is no weight, or the layout does not make that of it.
        """
        if not isinstance(layout, str):
            raise TypeError(f"the layout {layout!r} is no name")
        shape = tuple(map(operator.index, shape))
        encoding = self.encoding(value)
        if encoding is None or value.name is None:
            raise ValueError(
                f"{value.name} is no weight; `encodings` of a rule has those of its pattern that"
                " have to be"
            )
        kind = np.dtype(dtype)
        if layout in LAYOUTS:
            package = ""
            _check_size(value, layout, encoding, shape, kind)
        name = ":".join(part for part in (value.name, package, layout) if part)
        whole, rows = self._parts.get(value, (value, None))
        assert whole.name is not None
        described = LoweredWeight(
            name, whole.name, layout, kind.name, shape, constant, encoding.name, package, host, rows
        )
        tensor, first = self._made.setdefault(name, (_tensor(name, shape, kind), described))
        if described != first:
            raise LoweringError(
                f"weight {value.name} is wanted as {layout} in two ways: {_form(first)} and"
                f" {_form(described)}; the rules that take it have to agree"
            )
        return tensor

    def supply_values(self, kind: np.dtype[Any]) -> None:
        """Gives standard operators the values of the parameters that they use, as activations.

        They are inputs: what is computed of constants only, a runtime would compute when it
        compiles the graph, and look for their values in it.
        """
        for value in self._graph.inputs:
            if value in self._parameters and value.uses():
                assert value.shape is not None
                name = f"{value.name}:{kind.name}"
                if name in self._made:  # a rule has asked for it, and may have taken a constant
                    tensor, described = self._made[name]
                    self._made[name] = tensor, replace(described, constant=False)
                else:
                    shape = tuple(value.shape.numpy())
                    tensor = self.make(value, kind.name, shape, kind, constant=False, package="")
                value.replace_all_uses_with(tensor)

    def remove_parameters(self) -> None:
        """Leaves the graph without the inputs that nothing reads any more."""
        for value in list(self._graph.inputs):
            if value in self._parameters:
                self._graph.inputs.remove(value)

    def install(self) -> tuple[LoweredWeight, ...]:
        """Puts the tensors that are used into the graph; returns them, and those of the host."""
        used = [made for made in self._made.values() if made[0].uses() or made[1].host]
        for value, weight in used:
            if weight.host:
                continue
            if not weight.constant:
                self._graph.inputs.append(value)
                continue
            # Only declared: the runner supplies it, and nothing is ever read from that file.
            assert value.dtype is not None and value.shape is not None and value.name
            value.const_value = ir.ExternalTensor(
                PLACEHOLDER, 0, weight.nbytes, value.dtype, shape=value.shape, name=value.name
            )
            self._graph.initializers.add(value)
        return tuple(weight for _, weight in used)


def _tensor(name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> ir.Value:
    kind = ir.TensorType(ir.DataType.from_numpy(dtype))
    return ir.Value(name=name, shape=ir.Shape(shape), type=kind)


def _check_size(
    value: ir.Value, layout: str, encoding: Encoding, shape: tuple[int, ...], kind: np.dtype[Any]
) -> None:
    """Makes sure that one of the layouts that every target has fits into what a rule declares."""
    assert value.shape is not None
    *rows, columns = value.shape.numpy()
    runs_in = encoding if layout == "stored" else _FLOATS[layout]
    made = math.prod(rows) * runs_in.row_bytes(columns)
    if math.prod(shape) * kind.itemsize != made:
        raise ValueError(
            f"{value.name} has {made} bytes as {layout}, and is wanted as {kind} {list(shape)}"
        )


def _form(weight: LoweredWeight) -> str:
    return f"{weight.dtype} {list(weight.shape)} {'constant' if weight.constant else 'input'}"
