"""Where the graphs of a model are run: on targets, and those of targets elsewhere on the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pipelines.common.errors import TargetError
from pipelines.common.op_packages import NATIVE
from pipelines.common.pipeline_check.outcome import CheckSkippedError
from pipelines.common.pipeline_check.stand_ins import CoreMLOnCpu, CudaOnCpu
from pipelines.common.pipeline_check.subject import Opened, Started, Subject
from pipelines.common.program.target import Target
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
        stand_in: Runs the target's graphs where the target is not; None for the target itself.
    """

    name: str
    target: str
    native_ops: bool = False
    stand_in: Target | None = None

    def open(self, subject: Subject, encoding: str = "float32") -> Opened:
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

    def start(self, subject: Subject, encoding: str = "float32", slots: int = 1) -> Started:
        """Opens a model and starts it.

        Raises:
            CheckSkippedError: It cannot run here.
        """
        model = self.open(subject, encoding)
        return subject.start(model, slots=slots, target=self.stand_in)

    def tolerance(self, subject: Subject, encoding: str = "float32") -> float:
        """How far logits may be from the reference's, relative to the largest of them."""
        model = self.open(subject, encoding)
        try:
            graph = model.target.lower(model.deployment(slots=1, max_length=subject.room))
        except TargetError:  # it runs no graphs
            return _TOLERANCES["float32"]
        return _TOLERANCES[graph.activations]


NATIVE_CPU = Backend("cpu", "cpu", native_ops=True)
"""The CPU with the project's own kernels."""

STOCK_CPU = Backend("cpu without native ops", "cpu")
"""The CPU with ONNX Runtime's operators alone."""

STAND_INS = (
    Backend("cuda's graph on the CPU", "cuda", stand_in=CudaOnCpu()),
    Backend("coreml's graph on the CPU", "coreml", stand_in=CoreMLOnCpu()),
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
