"""The network run eagerly on torch's tensors: the reference that other targets are held to."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.common.errors import TargetError, UsageError
from pipelines.common.graph.rules import LoweredGraph
from pipelines.common.program.footprint import logits_bytes, working_bytes
from pipelines.common.program.module_program import ModuleProgram
from pipelines.common.program.package import Layout
from pipelines.common.program.runner import Runner
from pipelines.common.program.target import Availability, Deployment, Device, Footprint
from pipelines.common.system import available_memory, cores, processor, total_memory

if TYPE_CHECKING:
    from pipelines.common.nn.network import Network
    from pipelines.common.targets.torch.runner import TorchFunction

_FLOAT32 = 4


class TorchTarget:
    """Implements `pipelines.common.program.target.Target`.

    Weights are the exact float32 values of the encoding they run in.

    Args:
        device: What torch calls the device to run on: ``cpu``, ``cuda``, ``cuda:1``.
    """

    layouts: Mapping[str, Layout] = {}

    def __init__(self, device: str = "cpu") -> None:
        self._device = device

    def availability(self) -> Availability:
        """See `Target.availability`."""
        return Availability((Device(processor(), total_memory(), available_memory()),))

    def lower(self, deployment: Deployment) -> LoweredGraph:  # noqa: ARG002 - the protocol's
        """See `Target.lower`."""
        raise TargetError("target torch runs the network itself and has no graph; name another")

    def prepare(self, deployment: Deployment) -> None:
        """See `Target.prepare`."""
        self.lower(deployment)

    def footprint(self, deployment: Deployment) -> Footprint:
        """See `MeasuredTarget.footprint`; a call makes the state anew, beside the one it is given.

        Raises:
            TargetError: There is only a graph.
        """
        program = _program(deployment)
        # Tied weights share their values.
        elements = {
            program.weights.identity(name): math.prod(parameter.shape)
            for name, parameter in program.network.parameters().items()
        }
        return Footprint(
            _FLOAT32 * sum(elements.values()),
            2 * _FLOAT32 * deployment.state_elements,
            deployment.slots,
            working_bytes(deployment, _FLOAT32, all_pairs=True),
            logits_bytes(deployment, _FLOAT32),
            on_device=self._device != "cpu",
        )

    def start(self, deployment: Deployment) -> Runner:
        """See `Target.start`; there is nothing to lower."""
        if deployment.pack_cache:
            deployment.progress.notice("`pack_cache` changes nothing: torch packs no weights")
        from pipelines.common.targets.torch.runner import TorchRunner

        return TorchRunner(
            self._bound(deployment), deployment.slots, deployment.max_length, device=self._device
        )

    def start_function(self, deployment: Deployment) -> TorchFunction:
        """See `FunctionTarget.start_function`."""
        from pipelines.common.targets.torch.runner import TorchFunction

        return TorchFunction(self._bound(deployment), device=self._device)

    def _bound(self, deployment: Deployment) -> Network:
        """The network with its weights, on the device.

        Raises:
            MemoryLimitError: They need more memory than there is.
            TargetError: There is only a graph.
            UsageError: PyTorch cannot be used.
        """
        import torch

        program, footprint = _program(deployment), self.footprint(deployment)
        # What torch chooses knows nothing of the time that a control group grants.
        torch.set_num_threads(deployment.threads or min(torch.get_num_threads(), cores()))
        try:
            Path.cwd()
        except OSError as error:  # MKL, within torch, would end the process
            raise UsageError(
                f"the working directory cannot be used ({error.strerror}), and PyTorch needs one;"
                " change to another"
            ) from error
        device = torch.device(self._device)
        available = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else None
        deployment.require_memory("torch", footprint, available)
        network = program.declared(deployment)
        with deployment.progress.phase("load", "decoding weights"), warnings.catch_warnings():
            # Mapped weights are read-only, which torch warns of; nothing here writes to them.
            warnings.filterwarnings("ignore", "The given NumPy array is not writable")
            tensors = {
                name: torch.from_numpy(program.weights.float32(name)).to(device)
                for name in network.parameters()
            }
        return network.bind(tensors, lambda array: torch.from_numpy(array).to(device))

    def versions(self) -> dict[str, str]:
        """See `Target.versions`."""
        import torch

        return {"torch": torch.__version__}


def _program(deployment: Deployment) -> ModuleProgram:
    """The program, which has to have a network.

    Raises:
        TargetError: There is only a graph.
    """
    if not isinstance(deployment.program, ModuleProgram):
        raise TargetError(
            "target torch runs the network of a model file; an exported folder has only a graph"
        )
    return deployment.program
