"""Shared libraries of op packages: checked before they are used, and asked what they have.

A library exports ``RegisterCustomOps``, see `RegisterCustomOpsLibrary` in onnxruntime_c_api.h.
"""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Collection, Iterable
from pathlib import Path

from pipelines.common.errors import OpPackageError
from pipelines.common.ort import failures, onnxruntime, said
from pipelines.common.system import processor_features

SYMBOL = "RegisterCustomOps"

_OTHER_PLATFORM = (
    "invalid ELF header",
    "wrong ELF class",
    "incompatible architecture",
    "not a mach-o file",
    "no suitable image found",
)
"""What dynamic loaders say of a library for another system or processor."""


def check_library(library: Path, build: str, cpu: Collection[str] = ()) -> None:
    """Makes sure that ONNX Runtime can use a library in this process.

    Args:
        library: The library's file.
        build: The command that builds it for this machine, for messages.
        cpu: Processor features that it cannot do without.

    Raises:
        OpPackageError: This processor lacks one of them, or the library is for another platform,
            misses what it needs, does not export the function, or refuses this runtime.
    """
    # Loading runs the library's code, which may use the features: an illegal instruction.
    if lacking := sorted(set(cpu) - processor_features()):
        raise OpPackageError(
            f"{library} needs a processor with {', '.join(lacking)}, which this one is not known"
            f" to have; build it for this machine: {build}"
        )
    try:
        loaded = ctypes.CDLL(str(library))
    except OSError as error:
        raise _not_loaded(library, str(error), build) from error
    if not hasattr(loaded, SYMBOL):
        raise OpPackageError(f"{library} is no library of operators: it does not export {SYMBOL}")
    try:
        onnxruntime().SessionOptions().register_custom_ops_library(str(library))
    except failures() as error:
        raise OpPackageError(
            f"{library} refuses ONNX Runtime {onnxruntime().__version__}: {said(error)}; build it"
            f" for this version: {build}"
        ) from error


def _not_loaded(library: Path, message: str, build: str) -> OpPackageError:
    message = " ".join(message.split())
    # Of a file that is there, glibc says so when it is for another processor.
    elsewhere = message.startswith(f"{library}: cannot open shared object file")
    if elsewhere or any(words in message for words in _OTHER_PLATFORM):
        here = f"{platform.system()} on {platform.machine()}"
        return OpPackageError(
            f"{library} was built for another platform than {here}; build it here: {build}"
        )
    return OpPackageError(f"{library} cannot be loaded: {message.removeprefix(f'{library}: ')}")


def registered(library: Path, operators: Iterable[str], domain: str) -> list[str]:
    """Those of some operators that a library brings, found out by asking for a session of each."""
    import onnx

    found = []
    for operator in operators:
        options = onnxruntime().SessionOptions()
        options.log_severity_level = 4
        options.register_custom_ops_library(str(library))
        value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, None)
        graph = onnx.helper.make_graph(
            [onnx.helper.make_node(operator, ["x"], ["y"], domain=domain)],
            "probe",
            [value],
            [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
        )
        opsets = [onnx.helper.make_opsetid("", 20), onnx.helper.make_opsetid(domain, 1)]
        model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10)
        try:
            onnxruntime().InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except failures() as error:
            if "is not a registered function/op" in str(error):
                continue
        found.append(operator)
    return found
