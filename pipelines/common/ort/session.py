"""Makes sessions of lowered graphs and their tensors."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipelines.common.errors import TargetError
from pipelines.common.graph.rules import PLACEHOLDER, LoweredGraph, element_type
from pipelines.common.ort import onnxruntime
from pipelines.common.system import cores

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, OrtValue


@dataclass(frozen=True)
class Provider:
    """One of ONNX Runtime's execution providers.

    Attributes:
        name: What the runtime calls it.
        options: Its options.
        entries: Entries of the session's configuration.
    """

    name: str
    options: Mapping[str, str] = field(default_factory=dict)
    entries: Mapping[str, str] = field(default_factory=dict)


CPU = Provider("CPUExecutionProvider")


@dataclass(frozen=True)
class Compiled:
    """A session and what it needs beside the decoder's own inputs.

    Attributes:
        session: ONNX Runtime's `InferenceSession`.
        inputs: Weights that are inputs of the graph, by name.
        lent: Memory that the session reads at any time; it has to outlive it.
    """

    session: InferenceSession
    inputs: dict[str, NDArray[Any]]
    lent: list[NDArray[Any]]


def compile_graph(
    graph: LoweredGraph,
    tensors: dict[str, NDArray[Any]],
    libraries: Iterable[Path],
    threads: int | None = None,
) -> Compiled:
    """Compiles a graph for the CPU.

    Args:
        graph: The graph.
        tensors: Its weights by name; used up, so that what has been packed can be freed.
        libraries: With the kernels of op packages.
        threads: Threads of the session; None for as many as this process may keep busy.

    Raises:
        TargetError: The session would run on something else than the CPU provider.
        Exception: One of `pipelines.common.ort.failures`, if the runtime refuses the graph.
    """
    ort = onnxruntime()
    constants = {
        weight.name: tensors.pop(weight.name) for weight in graph.weights if weight.constant
    }
    # Kernels may read views of the mapped file at any time; the others the session takes over.
    lent = [array for array in constants.values() if not array.flags.writeable]
    values = {name: _constant(ort, array) for name, array in constants.items()}
    del constants
    session = make_session(graph, values, CPU, libraries, threads)
    return Compiled(session, tensors, lent)


def make_session(
    graph: LoweredGraph,
    constants: Mapping[str, OrtValue],
    provider: Provider,
    libraries: Iterable[Path] = (),
    threads: int | None = None,
    dimensions: Mapping[str, int] | None = None,
) -> InferenceSession:
    """Makes a session on one provider.

    Args:
        graph: The graph.
        constants: Its constants by name, where the provider wants them.
        provider: What is to run it.
        libraries: With the kernels of op packages.
        threads: Threads of the session; None for as many as this process may keep busy.
        dimensions: Sizes of dimensions that the graph only names, for a session of fixed shapes.

    Raises:
        TargetError: The session would run on something else.
        Exception: One of `pipelines.common.ort.failures`, if the runtime refuses the graph.
    """
    ort = onnxruntime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or _unasked_threads()
    options.log_severity_level = 4  # errors are raised; what is left is what ends the process
    for library in libraries:
        options.register_custom_ops_library(str(library))
    for name, value in constants.items():
        options.add_initializer(name, value)
    for name, size in (dimensions or {}).items():
        options.add_free_dimension_override_by_name(name, size)
    with tempfile.TemporaryDirectory() as folder:
        # The runtime insists that the file exists, though each of its tensors is supplied here.
        (Path(folder) / PLACEHOLDER).touch()
        entries = {
            "session.model_external_initializers_file_folder_path": folder,
            # It would take its own format as well, whose content it believes.
            "session.load_model_format": "ONNX",
        }
        for key, entry in {**entries, **provider.entries}.items():
            options.add_session_config_entry(key, entry)
        session = ort.InferenceSession(
            graph.model,
            options,
            providers=[(provider.name, dict(provider.options))],
            enable_fallback=0,  # it would print why to stdout, and take the CPU
        )
    if session.get_providers()[0] != provider.name:
        raise TargetError(f"asked ONNX Runtime for {provider.name}, got {session.get_providers()}")
    return session


def bind(bind_value: Any, name: str, array: NDArray[Any]) -> None:
    """Binds an array's own memory as an input or output; the caller keeps it alive.

    Args:
        bind_value: `bind_input` or `bind_output` of an IOBinding.
        name: Name of the graph's input or output.
        array: Contiguous.
    """
    assert array.flags.c_contiguous
    bind_value(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)


def input_types(session: InferenceSession) -> dict[str, np.dtype[Any]]:
    """Element types of a session's inputs, by name."""
    return {value.name: _element_type(value.type) for value in session.get_inputs()}


def _element_type(tensor: str) -> np.dtype[Any]:
    """The element type of what ONNX Runtime calls ``tensor(float)``."""
    name = tensor.removeprefix("tensor(").removesuffix(")")
    return element_type({"float": "float32", "double": "float64"}.get(name, name))


def _unasked_threads() -> int:
    """Threads of a session for which nobody asks for some; 0 leaves their number to the runtime.

    That takes one for each core of the machine and ties them together, which is right for a process
    that may use all of them, and sees nothing of what a process may use.
    """
    usable = cores()
    return usable if usable < (os.cpu_count() or 1) else 0


def _constant(ort: ModuleType, array: NDArray[Any]) -> OrtValue:
    """A constant of a session, without a copy.

    Through DLPack the session itself owns it, and frees what it has packed. That takes no read-only
    arrays; those, views of the mapped file, are only lent, and have to outlive the session.
    """
    if array.flags.writeable:
        return ort.OrtValue.from_dlpack(array)
    return ort.OrtValue.ortvalue_from_numpy(array)
