"""What a target hands over of a network that keeps nothing: arrays in, arrays out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, TypeAlias, runtime_checkable

from numpy.typing import NDArray

from pipelines.common.program.target import Deployment

Arrays: TypeAlias = Mapping[str, NDArray[Any]]
"""Arrays by the names that `Interface.takes` or `Interface.gives` has for them."""


class Function(Protocol):
    """A compiled network with its weights; a call knows nothing of the one before."""

    def __call__(self, arrays: Arrays) -> Arrays:
        """Computes what the network gives.

        Args:
            arrays: All that it takes, in the types that it declares.
        """


@runtime_checkable
class FunctionTarget(Protocol):
    """A target that runs networks that keep nothing, too."""

    def start_function(self, deployment: Deployment) -> Function:
        """Builds, lowers, compiles and loads; errors are those of `Target.start`.

        Args:
            deployment: The network; its `max_length` is the most that the size ``sequence`` of what
                it takes will be.
        """
