"""The network run eagerly on torch's tensors: the reference that other targets are held to."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.common.errors import TargetError, UsageError
from pipelines.common.graph.rules import LoweredGraph
from pipelines.common.nn.network import Network
from pipelines.common.program.function import Arrays
from pipelines.common.program.module_program import ModuleProgram
from pipelines.common.program.package import Layout
from pipelines.common.program.runner import Runner
from pipelines.common.program.slot_runner import SlotRunner
from pipelines.common.program.target import Availability, Deployment, Device
from pipelines.common.system import available_memory, cores, processor, total_memory


class TorchTarget:
    """Implements `pipelines.common.program.target.Target`.

    Weights are the exact float32 values of the encoding they run in.

    Args:
        device: What torch calls the device to run on: ``cpu``, ``cuda``, ``cuda:1``.
    """

    layouts: Mapping[str, Layout] = {}

    def __init__(self, device: str = "cpu") -> None:
        self._device = torch.device(device)

    def availability(self) -> Availability:
        """See `Target.availability`."""
        return Availability((Device(processor(), total_memory(), available_memory()),))

    def lower(self, deployment: Deployment) -> LoweredGraph:  # noqa: ARG002 - the protocol's
        """See `Target.lower`."""
        raise TargetError("target torch runs the network itself and has no graph; name another")

    def prepare(self, deployment: Deployment) -> None:
        """See `Target.prepare`."""
        self.lower(deployment)

    def start(self, deployment: Deployment) -> Runner:
        """See `Target.start`; there is nothing to lower."""
        if deployment.pack_cache:
            deployment.progress.notice(
                "`pack_cache` changes nothing: target torch packs no weights"
            )
        return TorchRunner(
            self._bound(deployment), deployment.slots, deployment.max_length, device=self._device
        )

    def start_function(self, deployment: Deployment) -> TorchFunction:
        """See `FunctionTarget.start_function`."""
        return TorchFunction(self._bound(deployment), device=self._device)

    def _bound(self, deployment: Deployment) -> Network:
        """The network with its weights, on the device.

        Raises:
            MemoryLimitError: They need more memory than there is.
            TargetError: There is only a graph.
            UsageError: PyTorch cannot be used.
        """
        if not isinstance(deployment.program, ModuleProgram):
            raise TargetError(
                "target torch runs the network of a model file; an exported folder has only a graph"
            )
        # What torch chooses knows nothing of the time that a control group grants.
        torch.set_num_threads(deployment.threads or min(torch.get_num_threads(), cores()))
        try:
            Path.cwd()
        except OSError as error:  # MKL, within torch, would end the process
            raise UsageError(
                f"the working directory cannot be used ({error.strerror}), and PyTorch needs one;"
                " change to another"
            ) from error
        network = deployment.program.declared(deployment)
        parameters = network.parameters()
        weight_bytes = 4 * sum(math.prod(parameter.shape) for parameter in parameters.values())
        available = (
            torch.cuda.mem_get_info(self._device)[0] if self._device.type == "cuda" else None
        )
        deployment.require_memory(
            "torch", weight_bytes, 4 * deployment.state_elements, deployment.slots, available
        )
        with deployment.progress.phase("load", "decoding weights"), warnings.catch_warnings():
            # Mapped weights are read-only, which torch warns of; nothing here writes to them.
            warnings.filterwarnings("ignore", "The given NumPy array is not writable")
            weights = deployment.program.weights
            tensors = {
                name: torch.from_numpy(weights.float32(name)).to(self._device)
                for name in parameters
            }
        return network.bind(tensors, lambda array: torch.from_numpy(array).to(self._device))

    def versions(self) -> dict[str, str]:
        """See `Target.versions`."""
        return {"torch": torch.__version__}


class TorchFunction:
    """Implements `pipelines.common.program.function.Function` around an eager network.

    Args:
        network: The network with its weights, which are on `device`.
        device: Where it runs.
    """

    def __init__(self, network: Network, *, device: torch.device | str = "cpu") -> None:
        self._interface = network.interface
        self._network = network
        self._device = device

    @torch.inference_mode()
    def __call__(self, arrays: Arrays) -> Arrays:
        """See `Function`."""
        made = self._network(
            {name: torch.tensor(array, device=self._device) for name, array in arrays.items()}
        )
        self._interface.check_results({name: tensor.shape for name, tensor in made.items()})
        return {name: made[name].cpu().numpy() for name in self._interface.gives}


class TorchRunner(SlotRunner):
    """Implements `pipelines.common.program.runner.Runner` around an eager decoder.

    Args:
        network: The decoder with its weights, which are on `device`.
        slots: Sequences side by side.
        max_length: Tokens a slot can hold.
        device: Where it runs.
    """

    batch_invariant = False  # matrix products sum in an order that depends on their shape

    def __init__(
        self,
        network: Network,
        slots: int,
        max_length: int,
        *,
        device: torch.device | str = "cpu",
    ) -> None:
        interface = network.interface
        super().__init__(slots, max_length, interface.vocabulary)
        self._interface = interface
        self._network = network
        self._device = device
        self._tables = {
            name: torch.from_numpy(table).to(device)
            for name, table in interface.tables(max_length).items()
        }
        self._state = {
            name: torch.zeros(shape, device=device)
            for name, shape in interface.state_shapes(slots, max_length).items()
        }

    @torch.inference_mode()
    def _compute(
        self, first: int, tokens: NDArray[np.int64], wanted: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """See `SlotRunner._compute`."""
        count, sequence = tokens.shape
        rows = slice(first, first + count)
        past = torch.tensor(self._lengths[rows], device=self._device)
        made = self._network(
            {
                "tokens": torch.tensor(tokens, device=self._device),
                "past": past,
                "total": past + sequence,
                "wanted": torch.tensor(wanted, device=self._device),
                **self._tables,
                **{name: state[rows] for name, state in self._state.items()},
            }
        )
        self._interface.check_results({name: tensor.shape for name, tensor in made.items()})
        for name, state in self._state.items():
            state[rows] = made[f"new_{name}"]
        result: NDArray[np.float32] = made["logits"].cpu().numpy()
        return result

    def _copy(self, source: int, target: int, length: int) -> None:
        """See `SlotRunner._copy`."""
        for state in self._state.values():
            state[target, :, :length] = state[source, :, :length]
