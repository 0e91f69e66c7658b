"""How a model is opened, whatever its format: what a weight format's `open` is told."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, get_args

from pipelines.common.errors import ParameterError

Strategy: TypeAlias = Literal["mmap", "heap"]
"""How tensors come into memory: ``mmap`` maps files, so that the system reads what is touched, and
keeps it as long as there is room; ``heap`` reads a tensor into memory of the process's own."""

STRATEGIES: Final[tuple[str, ...]] = get_args(Strategy)


@dataclass(frozen=True)
class Opening:
    """How a model is opened.

    Attributes:
        weights: How tensors come into memory.
        translations: What families bring for the format, see `PipelineRecord.translations`.

    Raises:
        ParameterError: There is no such strategy.
    """

    weights: Strategy = "mmap"
    translations: Collection[Any] = ()

    def __post_init__(self) -> None:
        if self.weights not in STRATEGIES:
            raise ParameterError("weights", self.weights, " or ".join(STRATEGIES))


MAPPED: Final = Opening()
"""Nothing that has been asked for."""
