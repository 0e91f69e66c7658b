"""What travels through a network's layers beside the activations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from pipelines.common.nn.interface import Interface, KVCache

if TYPE_CHECKING:
    from torch import Tensor

    from pipelines.common.rotary.rope import Rope


class KVState(NamedTuple):
    """One layer's keys and values so far, in whatever layout the target keeps them."""

    key: Tensor
    value: Tensor


class Step:
    """A call of a network: where its tokens stand in their sequences, and what these have kept.

    Args:
        interface: The network's.
        inputs: What `Interface.inputs` declares, by name.

    Attributes:
        past: ``[batch]`` int32, tokens in each row's state before this call.
        total: ``[batch]`` int32, tokens in it afterwards.
    """

    def __init__(self, interface: Interface, inputs: Mapping[str, Tensor]) -> None:
        self.past = inputs["past"]
        self.total = inputs["total"]
        self._tables = {
            rope: (inputs[cos], inputs[sin]) for rope, (cos, sin) in interface.rotations.items()
        }
        self._states = {
            cache: KVState(*(inputs[half] for half in halves))
            for cache, halves in interface.states.items()
        }
        self._kept: dict[KVCache, KVState] = {}

    def rotation(self, rope: Rope) -> tuple[Tensor, Tensor]:
        """Cosines and sines of a rotary embedding, each ``[positions, dims / 2]``."""
        return self._tables[rope]

    def state(self, cache: KVCache) -> KVState:
        """What a cache held before this call."""
        return self._states[cache]

    def keep(self, cache: KVCache, state: KVState) -> None:
        """Says what a cache holds after it."""
        self._kept[cache] = state

    def kept(self, interface: Interface) -> dict[str, Tensor]:
        """The outputs that are the new state, by name.

        Raises:
            TypeError: A layer has not said what it keeps.
        """
        if missing := self._states.keys() - self._kept.keys():
            raise TypeError(f"the network keeps nothing in {next(iter(missing))}")
        return {
            f"new_{name}": half
            for cache, halves in interface.states.items()
            for name, half in zip(halves, self._kept[cache], strict=True)
        }
