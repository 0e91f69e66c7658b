"""Where the graphs of a model are run: on targets, and those of targets elsewhere on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pipelines.common.errors import TargetError
from pipelines.common.models.model import Model
from pipelines.common.op_packages import NATIVE
from pipelines.common.ort.layouts import LAYOUTS
from pipelines.common.ort.packages import at_work
from pipelines.common.ort.session import CPU, make_session
from pipelines.common.pipeline_check.outcome import CheckSkippedError
from pipelines.common.pipeline_check.subject import Subject
from pipelines.common.program.runner import Runner
from pipelines.common.program.target import Deployment
from pipelines.common.registry.registry import Registry

REFERENCE = "torch"
"""The target that runs the network itself."""

_TOLERANCES = {"float32": 1e-4, "float16": 0.03, "bfloat16": 0.2}


@dataclass(frozen=True)
class Backend:
    """Something that runs a model.

    Attributes:
        name: What it is called in the names of checks.
        target: Name of the target whose graph it runs.
        native_ops: Whether the project's own CPU kernels are used.
        stand_in: Starts the target's graph where the target is not; None for the target itself.
    """

    name: str
    target: str
    native_ops: bool = False
    stand_in: Callable[[Deployment], Runner] | None = None

    def open(self, subject: Subject, encoding: str = "float32") -> Model:
        """Opens a model for it.

        Raises:
            CheckSkippedError: It cannot run here.
        """
        availability = subject.registry.availability(self.target)
        if self.stand_in is None and not availability.here:
            raise CheckSkippedError(availability.reason)
        model = subject.open(self.target, encoding, native_ops=self.native_ops)
        if self.native_ops and NATIVE not in [package.name for package in model.packages]:
            raise CheckSkippedError("the native CPU kernels are not built")
        return model

    def start(self, subject: Subject, encoding: str = "float32", slots: int = 1) -> Runner:
        """Opens a model and starts it.

        Raises:
            CheckSkippedError: It cannot run here.
        """
        model = self.open(subject, encoding)
        if self.stand_in is None:
            return model.start(slots=slots, max_length=subject.room)
        return self.stand_in(model.deployment(slots=slots, max_length=subject.room))

    def tolerance(self, subject: Subject, encoding: str = "float32") -> float:
        """How far logits may be from the reference's, relative to the largest of them."""
        model = self.open(subject, encoding)
        try:
            graph = model.target.lower(model.deployment(slots=1, max_length=subject.room))
        except TargetError:  # it runs no graphs
            return _TOLERANCES["float32"]
        return _TOLERANCES[graph.activations]


def on_coreml(deployment: Deployment) -> Runner:
    """Runs the graph for Core ML by ONNX Runtime's CPU provider.

    Args:
        deployment: The model, and what it is to have room for.
    """
    from pipelines.common.targets.coreml import CoreMLTarget

    return CoreMLTarget(CPU).start(deployment)


def on_cuda(deployment: Deployment) -> Runner:
    """Runs the graph for NVIDIA's GPUs by ONNX Runtime's CPU provider.

    Args:
        deployment: The model, and what it is to have room for.
    """
    from pipelines.common.targets.cuda import CudaTarget
    from pipelines.common.targets.cuda.memory import Memory, upload
    from pipelines.common.targets.cuda.runner import CudaRunner

    memory = Memory("cpu", 0)
    graph = CudaTarget().lower(deployment)
    tensors = upload(deployment.program.tensors(graph, LAYOUTS, deployment.packages), memory)
    libraries = [package.library for package in at_work(deployment, graph) if package.library]
    session = make_session(graph, {}, CPU, libraries)
    return CudaRunner(session, deployment, graph, tensors, memory, graph_capture=False)


NATIVE_CPU = Backend("cpu", "cpu", native_ops=True)
"""The CPU with the project's own kernels."""

STOCK_CPU = Backend("cpu without native ops", "cpu")
"""The CPU with ONNX Runtime's operators alone."""

STAND_INS = (
    Backend("cuda's graph on the CPU", "cuda", stand_in=on_cuda),
    Backend("coreml's graph on the CPU", "coreml", stand_in=on_coreml),
)
"""Graphs of targets that need other hardware, run by ONNX Runtime on the CPU."""


def backends(registry: Registry) -> Iterator[Backend]:
    """All that there are: every target, those that plugins bring included.

    Args:
        registry: Where targets are registered.
    """
    yield NATIVE_CPU
    yield STOCK_CPU
    yield from (stand_in for stand_in in STAND_INS if stand_in.target in registry.targets)
    for name in registry.targets:
        if name not in ("cpu", REFERENCE):
            yield Backend(name, name)
