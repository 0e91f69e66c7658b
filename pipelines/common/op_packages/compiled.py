"""A lowered example, compiled by ONNX Runtime with the kernels of an op package."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.common.errors import OpPackageError
from pipelines.common.graph.rules import PLACEHOLDER, LoweredGraph
from pipelines.common.op_packages.package import LoadedPackage
from pipelines.common.ort import failures, onnxruntime, said
from pipelines.common.targets.cpu.weights import make_tensors
from pipelines.common.weights.source import WeightSource

Array = NDArray[Any]


@dataclass(frozen=True)
class Compiled:
    """A session and what it needs.

    Attributes:
        session: ONNX Runtime's own.
        inputs: The weights that are inputs of the graph, by name.
        lent: The memory of constants, which has to outlive the session.
    """

    session: Any
    inputs: Mapping[str, Array]
    lent: Any

    @classmethod
    def compile(
        cls, graph: LoweredGraph, source: WeightSource, package: LoadedPackage, folder: Path
    ) -> Compiled:
        """Compiles a graph.

        Args:
            graph: The graph.
            source: Its weights.
            package: Whose kernels and layouts it uses.
            folder: For files that are needed meanwhile.

        Raises:
            OpPackageError: ONNX Runtime refuses it.
        """
        ort = onnxruntime()
        inputs = make_tensors(source, graph.weights, [package])
        options = ort.SessionOptions()
        options.log_severity_level = 4  # errors are raised
        if package.library is not None:
            options.register_custom_ops_library(str(package.library))
        constants = {
            weight.name: ort.OrtValue.ortvalue_from_numpy(inputs.pop(weight.name))
            for weight in graph.weights
            if weight.constant
        }
        for name, value in constants.items():
            options.add_initializer(name, value)
        (folder / PLACEHOLDER).touch()
        options.add_session_config_entry(
            "session.model_external_initializers_file_folder_path", str(folder)
        )
        try:
            session = ort.InferenceSession(graph.model, options, providers=["CPUExecutionProvider"])
        except failures() as error:
            raise OpPackageError(said(error)) from error
        return cls(session, inputs, constants)

    def dtype(self, name: str) -> np.dtype[Any]:
        """Element type of an input."""
        types = {value.name: value.type for value in self.session.get_inputs()}
        return np.dtype({"tensor(float16)": np.float16}.get(types[name], np.float32))

    def run(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> None:
        """Runs it on arrays that stay where they are.

        Raises:
            OpPackageError: An operator fails.
        """
        wanted = {value.name for value in self.session.get_inputs()}
        binding = self.session.io_binding()
        for name, array in {**inputs, **self.inputs}.items():
            if name in wanted:  # a rule may have made one superfluous
                _bind(binding.bind_input, name, array)
        for name, array in outputs.items():
            _bind(binding.bind_output, name, array)
        try:
            self.session.run_with_iobinding(binding)
        except RuntimeError as error:
            raise OpPackageError(said(error)) from error


def _bind(bind: Any, name: str, array: Array) -> None:
    bind(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
