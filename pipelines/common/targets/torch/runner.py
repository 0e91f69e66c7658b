"""Runs a network eagerly on torch's tensors."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.common.nn.network import Network
from pipelines.common.program.function import Arrays
from pipelines.common.program.slot_runner import SlotRunner


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
