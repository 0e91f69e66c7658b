"""ONNX Runtime on the CPU, with the operators that it ships and those of op packages."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from typing import Any

from pipelines.common.graph.rules import LoweredGraph, LoweredWeight, element_type
from pipelines.common.ort import onnxruntime
from pipelines.common.ort.function import SessionFunction
from pipelines.common.ort.layouts import LAYOUTS
from pipelines.common.ort.op_errors import Makers
from pipelines.common.ort.packages import at_work, makers, report
from pipelines.common.ort.session import Compiled, bind, compile_graph
from pipelines.common.ort.state import capacity
from pipelines.common.program.footprint import logits_bytes, weight_bytes, working_bytes
from pipelines.common.program.kept import keep_packed, ready_tensors
from pipelines.common.program.runner import Runner
from pipelines.common.program.target import Availability, Deployment, Device, Footprint
from pipelines.common.program.tensors import named
from pipelines.common.system import available_memory, processor, total_memory
from pipelines.common.targets.cpu.rules import RULES
from pipelines.common.targets.cpu.runner import CpuRunner

_COPIES = {"codes": 2, "scales": 3}
"""How often a layout is in memory while the session is made: as it is handed over, and in what the
runtime packs, where scales stand by themselves and multiplied with the codes' zero point."""


class CpuTarget:
    """Implements `pipelines.common.program.target.Target`."""

    layouts = LAYOUTS

    def availability(self) -> Availability:
        """See `Target.availability`; every machine that this runs on has a processor."""
        return Availability((Device(processor(), total_memory(), available_memory()),))

    def lower(self, deployment: Deployment) -> LoweredGraph:
        """See `Target.lower`."""
        return deployment.program.lowered(deployment, "cpu", RULES, "float32")

    def prepare(self, deployment: Deployment) -> None:
        """See `Target.prepare`."""
        keep_packed(deployment, self.lower(deployment), LAYOUTS)

    def footprint(self, deployment: Deployment) -> Footprint:
        """See `MeasuredTarget.footprint`."""
        return _footprint(deployment, self.lower(deployment))

    def start(self, deployment: Deployment) -> Runner:
        """See `Target.start`."""
        # What is too large at the least is refused before a graph is built for it. Rules of op
        # packages may keep the state in halves of float32.
        least = (2 if deployment.packages else 4) * deployment.state_elements
        deployment.require_memory("cpu", Footprint(deployment.program.weights.total_bytes, least))
        graph = self.lower(deployment)
        deployment.require_memory("cpu", _footprint(deployment, graph))
        report(deployment, graph, "cpu")
        return _start(deployment, graph)

    def start_function(self, deployment: Deployment) -> SessionFunction:
        """See `FunctionTarget.start_function`."""
        graph = self.lower(deployment)
        deployment.require_memory("cpu", _footprint(deployment, graph))
        report(deployment, graph, "cpu")
        compiled, by = _compiled(deployment, graph)

        def bind_fixed(binding: Any) -> None:
            for name, array in compiled.inputs.items():
                bind(binding.bind_input, name, array)

        return SessionFunction(compiled.session, deployment.interface, bind_fixed, by)

    def versions(self) -> dict[str, str]:
        """See `Target.versions`."""
        return {"onnxruntime": onnxruntime().__version__}


def _start(deployment: Deployment, graph: LoweredGraph) -> CpuRunner:
    tables = deployment.interface.tables(deployment.max_length)
    compiled, by = _compiled(deployment, graph)
    by.check_interface(compiled.session, deployment.interface)
    return CpuRunner(
        compiled.session,
        deployment.interface,
        {**compiled.inputs, **tables},
        slots=deployment.slots,
        max_length=deployment.max_length,
        lent=compiled.lent,
        makers=by,
        batch_invariant=graph.batch_invariant,
    )


def _compiled(deployment: Deployment, graph: LoweredGraph) -> tuple[Compiled, Makers]:
    """A session of the graph with its weights, and who has made it."""
    with deployment.progress.phase("load", "preparing weights"):
        tensors = named(ready_tensors(deployment, graph, LAYOUTS))
    libraries = [package.library for package in at_work(deployment, graph) if package.library]
    by = makers(deployment, graph)
    with deployment.progress.phase("compile", "compiling the graph"), by.explain_session(graph):
        return compile_graph(graph, tensors, libraries, deployment.threads), by


def _footprint(deployment: Deployment, graph: LoweredGraph) -> Footprint:
    """What a graph takes at the most, which for weights is while a session is made."""
    program, itemsize = deployment.program, element_type(graph.activations).itemsize

    def tensor(weight: LoweredWeight) -> Hashable:
        return program.identity(replace(weight, layout="", package="", dtype=""))

    packed = {tensor(weight) for weight in graph.weights if weight.is_packed}

    def copies(weight: LoweredWeight) -> int:
        # A tied embedding reads some rows of the mapped file, beside what is packed of all.
        is_beside = weight.layout == "stored" and tensor(weight) in packed
        return 0 if is_beside else _COPIES.get(weight.layout, 1)

    return Footprint(
        weight_bytes(program, graph, copies),
        graph.state_bytes * capacity(deployment.max_length),
        deployment.slots,
        working_bytes(deployment, itemsize),
        logits_bytes(deployment, itemsize),
    )
