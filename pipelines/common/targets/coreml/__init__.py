"""ONNX Runtime's CoreML provider: Apple's GPU and Neural Engine, on macOS.

The provider, what it takes and its options:
https://onnxruntime.ai/docs/execution-providers/CoreML-ExecutionProvider.html
"""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.common.encodings import ENCODINGS
from pipelines.common.errors import TargetError
from pipelines.common.graph.rules import LoweredGraph
from pipelines.common.nn.interface import Interface
from pipelines.common.ort import onnxruntime
from pipelines.common.ort.operator_list import check_operators
from pipelines.common.ort.packages import at_work, makers, report
from pipelines.common.ort.placement import RECORDED, require_placement
from pipelines.common.ort.session import Provider, make_session
from pipelines.common.program.footprint import weight_bytes
from pipelines.common.program.package import Layout
from pipelines.common.program.runner import Runner
from pipelines.common.program.target import Availability, Deployment, Device, Footprint
from pipelines.common.system import available_memory, processor, total_memory
from pipelines.common.targets.coreml import weights
from pipelines.common.targets.coreml.function import CoreMLFunction, lengths
from pipelines.common.targets.coreml.layouts import LARGEST, LAYOUTS
from pipelines.common.targets.coreml.rules import RULES
from pipelines.common.targets.coreml.runner import LENGTHS, CoreMLRunner, capacity

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

COREML = Provider(
    "CoreMLExecutionProvider",
    {"ModelFormat": "MLProgram", "MLComputeUnits": "ALL", "RequireStaticInputShapes": "1"},
)

CHECK = partial(check_operators, Path(__file__).with_name("operators.json"), "coreml")
"""Refuses a graph with nodes that the provider has no kernels for."""

MACOS = 14
"""The first version of macOS that ONNX Runtime is built for; Core ML has float16 inputs from 13."""

_ENTRIES = {
    **RECORDED,
    # It would make a Gemm of a product and a bias, whose weights Core ML gets as text.
    "optimization.disable_specified_optimizers": "MatMulAddFusion",
}


class CoreMLTarget:
    """Implements `pipelines.common.program.target.Target`.

    Args:
        provider: What computes; another one runs the very same graph, as far as it can.
    """

    def __init__(self, provider: Provider = COREML) -> None:
        self._provider = provider

    def availability(self) -> Availability:
        """See `Target.availability`."""
        if platform.system() != "Darwin":
            return Availability(reason="it runs on macOS only")
        version = platform.mac_ver()[0]
        if int(version.partition(".")[0]) < MACOS:
            return Availability(
                reason=f"it needs macOS {MACOS} or later, this is {version}",
                fix="update macOS",
                device_found=True,
            )
        if not self._has_provider():
            return Availability(
                reason=f"this build of ONNX Runtime has no {self._provider.name}",
                fix="pip install --force-reinstall onnxruntime",
                device_found=True,
            )
        return Availability((Device(processor(), total_memory(), available_memory()),))

    @property
    def layouts(self) -> Mapping[str, Layout]:
        """See `Target.layouts`."""
        return LAYOUTS

    def lower(self, deployment: Deployment) -> LoweredGraph:
        """See `Target.lower`.

        Raises:
            TargetError: A dimension is larger than Core ML takes.
        """
        _check_dimensions(deployment.interface, deployment.pipeline)
        return deployment.program.lowered(deployment, "coreml", RULES, "float16", CHECK)

    def prepare(self, deployment: Deployment) -> None:
        """See `Target.prepare`; what Core ML compiles is left to the first run."""
        weights.stored(deployment, self.lower(deployment))

    def footprint(self, deployment: Deployment) -> Footprint:
        """See `MeasuredTarget.footprint`."""
        return _footprint(deployment, self.lower(deployment))

    def start(self, deployment: Deployment) -> Runner:
        """See `Target.start`."""
        if not self._has_provider():
            raise TargetError(f"this build of ONNX Runtime has no {self._provider.name}")
        room = capacity(deployment.max_length)
        if room > LARGEST:
            raise TargetError(
                f"{deployment.max_length} tokens are more than target coreml has room for; expected"
                f" a `max_length` of at most {LARGEST}"
            )
        graph = self.lower(deployment)
        deployment.require_memory("coreml", _footprint(deployment, graph))
        report(deployment, graph, "coreml")
        _tell_of_float16(deployment, graph)
        with deployment.progress.phase("load", "preparing weights"):
            folder = weights.stored(deployment, graph)
            embedding = weights.tables(deployment, graph)
        sessions = _Sessions(deployment, graph, folder, self._provider)
        fixed = {"batch": 1, "wanted": 1, "capacity": room, "positions": room}
        return CoreMLRunner(
            lambda length: sessions.make({**fixed, "sequence": length}),
            deployment.interface,
            embedding,
            deployment.interface.tables(room),
            slots=deployment.slots,
            max_length=deployment.max_length,
            makers=makers(deployment, graph),
        )

    def start_function(self, deployment: Deployment) -> CoreMLFunction:
        """See `FunctionTarget.start_function`."""
        if not self._has_provider():
            raise TargetError(f"this build of ONNX Runtime has no {self._provider.name}")
        graph = self.lower(deployment)
        deployment.require_memory("coreml", _footprint(deployment, graph))
        report(deployment, graph, "coreml")
        _tell_of_float16(deployment, graph)
        with deployment.progress.phase("load", "preparing weights"):
            folder = weights.stored(deployment, graph)
            embedding = weights.tables(deployment, graph)
        return CoreMLFunction(
            _Sessions(deployment, graph, folder, self._provider).make,
            deployment.interface,
            embedding,
            lengths(deployment.max_length),
            makers(deployment, graph),
        )

    def versions(self) -> dict[str, str]:
        """See `Target.versions`."""
        return {"onnxruntime": onnxruntime().__version__}

    def _has_provider(self) -> bool:
        return self._provider.name in onnxruntime().get_available_providers()


@dataclasses.dataclass(frozen=True)
class _Sessions:
    """Makes sessions of one graph.

    Attributes:
        deployment: What they are for.
        graph: The graph.
        folder: Has the graph with its weights, see `weights.stored`.
        provider: What is to run them.
    """

    deployment: Deployment
    graph: LoweredGraph
    folder: Path
    provider: Provider

    def make(self, sizes: Mapping[str, int]) -> InferenceSession:
        """The session for calls of some sizes, by the names that the graph has for them.

        Raises:
            TargetError: The provider does not take every node.
        """
        deployment = self.deployment
        graph = dataclasses.replace(self.graph, model=(self.folder / weights.GRAPH).read_bytes())
        packages, by = at_work(deployment, graph), makers(deployment, graph)
        with (
            deployment.progress.phase(
                "compile", f"compiling the graph for calls of {sizes['sequence']} tokens"
            ),
            by.explain_session(graph),
        ):
            session = make_session(
                graph,
                {},
                self._provider(sizes),
                [package.library for package in packages if package.library],
                deployment.threads,
                sizes,
            )
        by.check_interface(session, deployment.interface)
        require_placement(session, self.provider.name)
        return session

    def _provider(self, sizes: Mapping[str, int]) -> Provider:
        """The provider, which finds the weights, and what it has compiled in an earlier run."""
        entries = {
            **_ENTRIES,
            "session.model_external_initializers_file_folder_path": str(self.folder),
        }
        options = dict(self.provider.options)
        if self.provider.name == COREML.name:
            # Its own key knows neither shapes nor weights, nor which versions have compiled them.
            shape = "-".join(str(size) for _, size in sorted(sizes.items()))
            name = f"{onnxruntime().__version__}-{platform.mac_ver()[0]}-{shape}"
            options["ModelCacheDirectory"] = str(weights.compiled(self.folder, name))
        return Provider(self.provider.name, options, {**entries, **self.provider.entries})


def _check_dimensions(interface: Interface, pipeline: str) -> None:
    """Checks what cannot be cut into parts."""
    if interface.widest > LARGEST:
        raise TargetError(
            f"the widest vector in a layer of this {pipeline} model has {interface.widest}"
            f" elements; target coreml takes at most {LARGEST}, run it on another"
        )


def _footprint(deployment: Deployment, graph: LoweredGraph) -> Footprint:
    """What a graph takes, in memory that processor and GPU share.

    Each length has weights of its own, and what a call makes of the state goes beside it.
    """
    has_state = bool(deployment.interface.caches)
    sizes = LENGTHS if has_state else lengths(deployment.max_length)
    return Footprint(
        weight_bytes(deployment.program, graph, lambda weight: 1 if weight.host else len(sizes)),
        2 * graph.state_bytes * capacity(deployment.max_length) if has_state else 0,
        deployment.slots,
    )


def _tell_of_float16(deployment: Deployment, graph: LoweredGraph) -> None:
    """Says what becomes of matrices in other encodings."""
    size = sum(weight.nbytes for weight in graph.weights if not weight.host)
    matrices = [weight for weight in graph.weights if not weight.host and len(weight.shape) > 1]
    encodings = {weight.encoding for weight in matrices}
    others = sorted(name for name in encodings if ENCODINGS[name].element != "float16")
    if others:
        deployment.progress.notice(
            f"target coreml computes with float16 weights: those in {', '.join(others)} are"
            f" converted, {size / 2**20:,.0f} MiB in all"
        )
