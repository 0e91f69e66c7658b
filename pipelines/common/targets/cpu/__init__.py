"""ONNX Runtime on the CPU, with the operators that it ships."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from types import ModuleType

import numpy as np

from pipelines.common.decoder import rope
from pipelines.common.errors import TargetError
from pipelines.common.graph.rules import PLACEHOLDER, LoweredGraph
from pipelines.common.graph.store import lowered_graph
from pipelines.common.runtime.runner import Runner
from pipelines.common.system import require_memory
from pipelines.common.target import Job
from pipelines.common.targets.cpu.rules import RULES
from pipelines.common.targets.cpu.runner import CpuRunner
from pipelines.common.targets.cpu.weights import make_tensors

PROVIDER = "CPUExecutionProvider"

_COPIES = {"codes": 2, "scales": 3}
"""How often a layout is in memory while the session is made: as it is handed over, and in what the
runtime packs, where scales stand by themselves and multiplied with the codes' zero point."""


class CpuTarget:
    """Implements `pipelines.common.target.Target`."""

    def start(self, job: Job) -> Runner:
        """See `Target.start`."""
        # What is too large at the least is refused before a graph is built for it.
        _require_memory(job, job.weights.total_bytes)
        graph = lowered_graph(job, "cpu", RULES)
        _require_memory(
            job, sum(_COPIES.get(weight.layout, 1) * weight.nbytes for weight in graph.weights)
        )
        return _start(job, graph)

    def versions(self) -> dict[str, str]:
        """See `Target.versions`."""
        return {"onnxruntime": _onnxruntime().__version__}


def _onnxruntime() -> ModuleType:
    """The runtime, which is kept from reporting home.

    Its official builds send usage data from 1.29 on, on Linux too, unless this is set before the
    import; they leave a database for it in the user's cache folder as well.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    return onnxruntime


def _require_memory(job: Job, weights: int) -> None:
    state = 4 * job.state_elements
    require_memory(
        weights + state,
        f"{job.pipeline} on cpu (weights {weights / 2**30:.1f} GiB, KV {state / 2**30:.1f} GiB)",
    )


def _start(job: Job, graph: LoweredGraph) -> CpuRunner:
    ort = _onnxruntime()
    cos, sin = rope.tables(job.frequencies, job.max_length)
    with job.progress.phase("load", "preparing weights"):
        tensors = make_tensors(job.weights, graph.weights)
    options = ort.SessionOptions()
    options.intra_op_num_threads = job.threads or 0
    options.log_severity_level = 3  # errors; they are raised as well
    # Through DLPack the session itself owns constants, and frees each that it has packed. It takes
    # no read-only arrays; those, views of the file, are small vectors.
    constants = {}
    for weight in graph.weights:
        if weight.constant:
            tensor = np.require(tensors.pop(weight.name), requirements="W")
            constants[weight.name] = ort.OrtValue.from_dlpack(tensor)
            options.add_initializer(weight.name, constants[weight.name])
    with (
        job.progress.phase("compile", "compiling the graph"),
        tempfile.TemporaryDirectory() as folder,
    ):
        # The runtime insists that the file exists, though each of its tensors is supplied here.
        (Path(folder) / PLACEHOLDER).touch()
        options.add_session_config_entry(
            "session.model_external_initializers_file_folder_path", folder
        )
        session = ort.InferenceSession(graph.model, options, providers=[PROVIDER])
    if session.get_providers() != [PROVIDER]:
        raise TargetError(f"asked ONNX Runtime for {PROVIDER}, got {session.get_providers()}")
    inputs = {**tensors, "cos": cos, "sin": sin}
    return CpuRunner(session, job.config, inputs, job.slots, job.max_length)
