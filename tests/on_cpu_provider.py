"""Graphs for targets that need not be here, run by ONNX Runtime's CPU provider."""

from __future__ import annotations

from pipelines.common.ort.layouts import LAYOUTS
from pipelines.common.ort.session import CPU, make_session
from pipelines.common.program.runner import Runner
from pipelines.common.program.target import Deployment
from pipelines.common.targets.coreml import CoreMLTarget
from pipelines.common.targets.cuda import CudaTarget
from pipelines.common.targets.cuda.memory import Memory, upload
from pipelines.common.targets.cuda.runner import CudaRunner


def on_coreml(deployment: Deployment) -> Runner:
    return CoreMLTarget(CPU).start(deployment)


def on_cuda(deployment: Deployment) -> Runner:
    memory = Memory("cpu", 0)
    graph = CudaTarget().lower(deployment)
    tensors = upload(deployment.program.tensors(graph, LAYOUTS), memory)
    return CudaRunner(
        make_session(graph, {}, CPU), deployment, graph, tensors, memory, graph_capture=False
    )
