"""Targets whose graphs are run by ONNX Runtime's CPU provider, where they themselves are not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.common.ort.function import SessionFunction
from pipelines.common.ort.layouts import LAYOUTS
from pipelines.common.ort.packages import at_work
from pipelines.common.ort.session import CPU, make_session
from pipelines.common.program.runner import Runner
from pipelines.common.program.target import Deployment
from pipelines.common.targets.coreml import CoreMLTarget
from pipelines.common.targets.cuda import CudaTarget
from pipelines.common.targets.cuda.memory import Memory, function, upload
from pipelines.common.targets.cuda.runner import CudaRunner

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, OrtValue

    from pipelines.common.graph.rules import LoweredGraph


class CudaOnCpu(CudaTarget):
    """Runs the graphs for NVIDIA's GPUs in the machine's memory."""

    def start(self, deployment: Deployment) -> Runner:
        """See `Target.start`."""
        memory = Memory("cpu", 0)
        graph, session, tensors = self._in_memory(deployment, memory)
        return CudaRunner(session, deployment, graph, tensors, memory, graph_capture=False)

    def start_function(self, deployment: Deployment) -> SessionFunction:
        """See `FunctionTarget.start_function`."""
        memory = Memory("cpu", 0)
        graph, session, tensors = self._in_memory(deployment, memory)
        return function(session, deployment, graph, tensors, memory)

    def _in_memory(
        self, deployment: Deployment, memory: Memory
    ) -> tuple[LoweredGraph, InferenceSession, dict[str, OrtValue]]:
        graph = self.lower(deployment)
        tensors = upload(deployment.program.tensors(graph, LAYOUTS, deployment.packages), memory)
        libraries = [package.library for package in at_work(deployment, graph) if package.library]
        return graph, make_session(graph, {}, CPU, libraries), tensors


class CoreMLOnCpu(CoreMLTarget):
    """Runs the graphs for Core ML."""

    def __init__(self) -> None:
        super().__init__(CPU)


def on_coreml(deployment: Deployment) -> Runner:
    """Runs a decoder's graph for Core ML on the CPU.

    Args:
        deployment: The model, and what it is to have room for.
    """
    return CoreMLOnCpu().start(deployment)


def on_cuda(deployment: Deployment) -> Runner:
    """Runs a decoder's graph for NVIDIA's GPUs on the CPU.

    Args:
        deployment: The model, and what it is to have room for.
    """
    return CudaOnCpu().start(deployment)
