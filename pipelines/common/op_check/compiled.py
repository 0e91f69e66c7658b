"""A lowered example, compiled by ONNX Runtime with the kernels of an op package."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.common.errors import OpPackageError
from pipelines.common.graph.rules import LoweredGraph
from pipelines.common.ort import failures, said
from pipelines.common.ort.layouts import LAYOUTS
from pipelines.common.ort.session import bind, compile_graph, input_types
from pipelines.common.program.package import LoadedPackage
from pipelines.common.program.tensors import make_tensors, named
from pipelines.common.program.weights import WeightSource

Array = NDArray[Any]


class CompiledExample:
    """A lowered example that can be run.

    Args:
        graph: The graph.
        source: Its weights.
        package: Whose kernels and layouts it uses.

    Raises:
        OpPackageError: ONNX Runtime refuses it.
    """

    def __init__(self, graph: LoweredGraph, source: WeightSource, package: LoadedPackage) -> None:
        tensors = named(make_tensors(source, graph.weights, LAYOUTS, [package]))
        libraries = [package.library] if package.library else []
        try:
            self._compiled = compile_graph(graph, tensors, libraries)
        except failures() as error:
            raise OpPackageError(said(error)) from error

    def dtype(self, name: str) -> np.dtype[Any]:
        """Element type of an input."""
        return input_types(self._compiled.session)[name]

    def run(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> None:
        """Runs it on arrays that stay where they are.

        Raises:
            OpPackageError: An operator fails.
        """
        wanted = {value.name for value in self._compiled.session.get_inputs()}
        binding = self._compiled.session.io_binding()
        for name, array in {**inputs, **self._compiled.inputs}.items():
            if name in wanted:  # a rule may have made one superfluous
                bind(binding.bind_input, name, array)
        for name, array in outputs.items():
            bind(binding.bind_output, name, array)
        try:
            self._compiled.session.run_with_iobinding(binding)
        except RuntimeError as error:
            raise OpPackageError(said(error)) from error
