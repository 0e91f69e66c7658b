"""A whole network, as it is written down as a graph or run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pipelines.common.nn.interface import Interface
from pipelines.common.nn.module import Module

if TYPE_CHECKING:
    from torch import Tensor


class Network(Module):
    """A module that says what it takes, keeps and gives."""

    @property
    def interface(self) -> Interface:
        """What it takes, keeps and gives."""
        raise NotImplementedError

    def forward(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Computes a call.

        Args:
            inputs: What `Interface.inputs` declares, by name.

        Returns:
            The results and the new state, by name.
        """
        raise NotImplementedError
