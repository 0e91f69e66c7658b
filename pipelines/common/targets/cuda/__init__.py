"""ONNX Runtime on NVIDIA GPUs, through its CUDA provider.

Options of the provider: https://onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html
"""

from __future__ import annotations

import ctypes
import io
import os
import platform
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from pipelines.common.errors import TargetError
from pipelines.common.graph.rules import LoweredGraph
from pipelines.common.ort import failures, onnxruntime, said
from pipelines.common.ort.function import SessionFunction
from pipelines.common.ort.layouts import LAYOUTS
from pipelines.common.ort.operator_list import check_operators
from pipelines.common.ort.packages import at_work, makers, report
from pipelines.common.ort.placement import RECORDED, require_placement, shape_nodes
from pipelines.common.ort.session import Provider, make_session
from pipelines.common.program.kept import keep_packed, ready_tensors
from pipelines.common.program.package import Layout
from pipelines.common.program.runner import Runner
from pipelines.common.program.target import Availability, Deployment, Device, Footprint
from pipelines.common.targets.cuda import driver

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, OrtValue

    from pipelines.common.targets.cuda.memory import Memory

PROVIDER = "CUDAExecutionProvider"

CHECK = partial(check_operators, Path(__file__).with_name("operators.json"), "cuda")
"""Refuses a graph with nodes that the provider has no kernels for."""

CUDA = 13
"""The major version of CUDA that ``onnxruntime-gpu`` is built for."""

LIBRARIES = ("libcudart.so.13", "libcublasLt.so.13", "libcublas.so.13", "libcurand.so.10")
"""What the provider is linked against, and does not load without."""

OLDEST = (7, 5)
"""The lowest compute capability that CUDA 13 has code for."""

_DRIVER = "install NVIDIA's driver, version 580 or newer"
_INSTALL = "pip install 'pipeline-driver[cuda]'"

_FAILURE = re.compile(r"CUDA failure \d+: [^;]*|Failed to allocate memory [^;\n]*")
"""What the runtime says of the device, amid where it says so."""

_ATTENTION = 1 | 2 | 16
"""Kernels for prompts: flash, memory-efficient, plain; cuDNN's plan anew for every length."""


class CudaTarget:
    """Implements `pipelines.common.program.target.Target`.

    Args:
        graph_capture: Whether decode steps are captured as CUDA graphs.
        fpa_intb_gemm: Whether products with weights in blocks of 32 run in fused kernels. They take
            weights in a form of their own, which is a second copy on the device.
    """

    def __init__(self, *, graph_capture: bool = True, fpa_intb_gemm: bool = False) -> None:
        self._graph_capture = graph_capture
        self._fpa_intb_gemm = fpa_intb_gemm

    def availability(self) -> Availability:
        """See `Target.availability`; ONNX Runtime is imported only where there is a GPU."""
        try:
            loaded = driver.Driver(driver.LIBRARY)
        except OSError:
            return Availability(
                reason=f"there is no NVIDIA driver ({driver.LIBRARY})",
                fix=f"{_DRIVER}; start containers with the GPU" * (sys.platform != "darwin"),
            )
        try:
            gpus, version = loaded.gpus(), loaded.cuda_version()
        except driver.DriverError as error:
            hidden = "CUDA_VISIBLE_DEVICES" in os.environ
            return Availability(
                reason=f"the NVIDIA driver offers no GPU: {error}",
                fix="unset CUDA_VISIBLE_DEVICES, or name a GPU in it" if hidden else "",
            )
        reason, fix = _missing(gpus, version)
        if reason:
            return Availability(reason=reason, fix=fix, device_found=True)
        return Availability(tuple(map(_device, gpus)))

    @property
    def layouts(self) -> Mapping[str, Layout]:
        """See `Target.layouts`."""
        return LAYOUTS

    def lower(self, deployment: Deployment) -> LoweredGraph:
        """See `Target.lower`."""
        from pipelines.common.targets.cuda.rules import activation_type, rules

        activations = activation_type(deployment.program.encodings.values())
        own = rules(activations, packed=self._fpa_intb_gemm)
        return deployment.program.lowered(deployment, "cuda", own, activations, CHECK)

    def prepare(self, deployment: Deployment) -> None:
        """See `Target.prepare`."""
        keep_packed(deployment, self.lower(deployment), LAYOUTS)

    def footprint(self, deployment: Deployment) -> Footprint:
        """See `MeasuredTarget.footprint`."""
        from pipelines.common.targets.cuda.footprint import footprint

        return footprint(deployment, self.lower(deployment))

    def start(self, deployment: Deployment) -> Runner:
        """See `Target.start`."""
        # Not before: ``auto`` looks at this target in every run.
        from pipelines.common.targets.cuda.memory import Memory
        from pipelines.common.targets.cuda.runner import CudaRunner

        graph = self._fitting(deployment)
        memory = Memory("cuda", deployment.device)
        with _in_use(deployment.device):
            session, tensors = self._load(deployment, graph, memory, capture=self._graph_capture)
            return CudaRunner(
                session, deployment, graph, tensors, memory, graph_capture=self._graph_capture
            )

    def start_function(self, deployment: Deployment) -> SessionFunction:
        """See `FunctionTarget.start_function`."""
        from pipelines.common.targets.cuda.memory import Memory, function

        graph = self._fitting(deployment)
        memory = Memory("cuda", deployment.device)
        with _in_use(deployment.device):
            session, tensors = self._load(deployment, graph, memory, capture=False)
            return function(session, deployment, graph, tensors, memory)

    def _fitting(self, deployment: Deployment) -> LoweredGraph:
        """The graph of what has turned out to fit into the device's memory."""
        from pipelines.common.targets.cuda.footprint import footprint
        from pipelines.common.targets.cuda.rules import activation_type

        free = self._free_memory(deployment.device)
        # What is too large at the least is refused before a graph is built for it. Rules of op
        # packages may keep the state in halves of float32.
        activations = activation_type(deployment.program.encodings.values())
        exact = activations == "float32" and not deployment.packages
        least = (4 if exact else 2) * deployment.state_elements
        deployment.require_memory(
            "cuda", Footprint(deployment.program.weights.total_bytes, least), free
        )
        graph = self.lower(deployment)
        deployment.require_memory("cuda", footprint(deployment, graph), free)
        report(deployment, graph, "cuda")
        return graph

    def versions(self) -> dict[str, str]:
        """See `Target.versions`."""
        return {"onnxruntime": onnxruntime().__version__}

    def _free_memory(self, number: int) -> int:
        """Free bytes of a device that can be run on."""
        found = self.availability()
        if not found.here:
            raise TargetError(f"target cuda cannot run here: {found.reason}")
        if not 0 <= number < len(found.devices):
            raise TargetError(f"target cuda has no device {number}, only {len(found.devices)}")
        try:
            return driver.Driver(driver.LIBRARY).free_memory(number)
        except driver.DriverError as error:
            raise TargetError(
                f"device {number}, {found.devices[number].name}, takes no other process: its memory"
                f" is full, or one has it for itself: {error}"
            ) from error

    def _load(
        self, deployment: Deployment, graph: LoweredGraph, memory: Memory, *, capture: bool
    ) -> tuple[InferenceSession, dict[str, OrtValue]]:
        """A session, and the weights on the device that it is to be given in each call."""
        from pipelines.common.targets.cuda.memory import upload

        with deployment.progress.phase("load", "copying weights to the device"):
            tensors = upload(ready_tensors(deployment, graph, LAYOUTS), memory)
        by = makers(deployment, graph)
        with deployment.progress.phase("compile", "compiling the graph"), by.explain_session(graph):
            session = self._compile(deployment, graph, tensors, capture=capture)
            by.check_interface(session, deployment.interface)
        return session, tensors

    def _compile(
        self,
        deployment: Deployment,
        graph: LoweredGraph,
        tensors: dict[str, OrtValue],
        *,
        capture: bool,
    ) -> InferenceSession:
        """A session with the constants among the tensors, which are taken out of them."""
        value = onnxruntime().OrtValue
        # Only a tensor that does not own its memory is taken as a constant.
        constants = {
            weight.name: value.from_dlpack(tensors.pop(weight.name))
            for weight in graph.weights
            if weight.constant
        }
        libraries = [package.library for package in at_work(deployment, graph) if package.library]

        def session(*, graph_capture: bool) -> InferenceSession:
            provider = self._provider(deployment.device, graph_capture=graph_capture)
            made = make_session(graph, constants, provider, libraries, deployment.threads)
            require_placement(made, PROVIDER, shape_nodes(graph.model))
            return made

        try:
            return session(graph_capture=capture)
        except failures() as error:
            if "graph capture" in str(error):
                session(graph_capture=False)  # tells which nodes are elsewhere
                raise TargetError(f"the step cannot be captured: {said(error)}") from error
            raise

    def _provider(self, device: int, *, graph_capture: bool) -> Provider:
        options = {
            "device_id": str(device),
            "enable_cuda_graph": str(int(graph_capture)),
            "use_tf32": "0",  # it would round the factors of float32 products to ten bits
            "sdpa_kernel": str(_ATTENTION),
            "arena_extend_strategy": "kSameAsRequested",
        }
        entries = {**RECORDED, "ep.cuda.fpa_intb_gemm": str(int(self._fpa_intb_gemm))}
        return Provider(PROVIDER, options, entries)


@contextmanager
def _in_use(device: int) -> Iterator[None]:
    """Wherein a device is used; that it fails, or is full after all, is told in one line."""
    raised: tuple[type[Exception], ...] = (RuntimeError, *failures())
    try:
        yield
    except raised as error:
        if failure := _FAILURE.search(str(error)):
            raise TargetError(f"target cuda, device {device}: {failure[0].strip()}") from error
        raise


def _device(gpu: driver.Gpu) -> Device:
    major, minor = gpu.capability
    return Device(f"{gpu.name} (compute capability {major}.{minor})", gpu.memory)


def _missing(gpus: Iterable[driver.Gpu], version: tuple[int, int]) -> tuple[str, str]:
    """What is missing where there are GPUs, and what to do about it; empty if nothing is."""
    if version[0] < CUDA:
        major, minor = version
        return (
            f"the NVIDIA driver is too old: it knows CUDA {major}.{minor}, ONNX Runtime is built"
            f" for CUDA {CUDA}",
            _DRIVER,
        )
    if all(gpu.capability < OLDEST for gpu in gpus):
        major, minor = OLDEST
        return f"CUDA {CUDA} needs a GPU of compute capability {major}.{minor} or more", ""
    ort = onnxruntime()
    if PROVIDER not in ort.get_available_providers():
        if platform.machine() not in ("x86_64", "AMD64"):
            return f"there is no onnxruntime-gpu for {platform.machine()}", ""
        return (
            "the installed ONNX Runtime is built for the CPU",
            # Both builds are in one folder: of the two, parts of either may be there.
            f"pip uninstall --yes onnxruntime onnxruntime-gpu && {_INSTALL}",
        )
    if missing := _missing_libraries(ort):
        return (
            f"CUDA {CUDA} is not installed: there is no {', '.join(missing)}",
            _INSTALL,
        )
    return "", ""


def _missing_libraries(ort: ModuleType) -> list[str]:
    with redirect_stdout(io.StringIO()):  # it prints what it does not find
        ort.preload_dlls()
    return [name for name in LIBRARIES if not _loads(name)]


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True
