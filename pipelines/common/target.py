"""What a target is given and what it has to do."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from pipelines.common.cache import Cache
from pipelines.common.decoder.config import DecoderConfig
from pipelines.common.errors import MemoryLimitError
from pipelines.common.op_packages.package import LoadedPackage
from pipelines.common.progress import Progress
from pipelines.common.runtime.runner import Runner
from pipelines.common.system import available_memory
from pipelines.common.weights.source import WeightSource

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Job:
    """A decoder to be made to run.

    Attributes:
        pipeline: Name of the pipeline.
        config: The decoder's dimensions.
        network: ``"package.module:function"``; the function makes the torch module of a config,
            with empty weights.
        weights: The weights, each in the encoding that it is to run in.
        frequencies: Rotary angle a position, for each pair of a head's elements,
            ``[head_dim / 2]``.
        slots: Sequences side by side.
        max_length: Tokens that each of them can grow to.
        threads: Threads to compute with; None for the target's own choice.
        cache: Where lowered graphs are kept.
        progress: Told of every phase.
        packages: Op packages, the one whose rules come first at the front.
    """

    pipeline: str
    config: DecoderConfig
    network: str
    weights: WeightSource
    frequencies: NDArray[np.float32]
    slots: int
    max_length: int
    threads: int | None
    cache: Cache
    progress: Progress
    packages: tuple[LoadedPackage, ...] = ()

    @property
    def state_elements(self) -> int:
        """Numbers in the KV state of one slot at its largest: keys and values of all layers."""
        config = self.config
        token = 2 * config.layers * config.kv_heads * config.head_dim
        return token * self.max_length

    def require_memory(self, target: str, weights: int, slot: int, slots: int) -> None:
        """Checks that the weights and the KV state of some slots fit into available memory.

        Args:
            target: Name of the target, for the message.
            weights: Bytes of the weights.
            slot: Bytes of the KV state of one slot.
            slots: How many slots there have to be.

        Raises:
            MemoryLimitError: They do not; it says how many slots would.
        """
        needed, available = weights + slots * slot, available_memory()
        if needed <= available:
            return
        fitting = max(0, available - weights) // slot
        if fitting and slots > 1:
            advice = f"--batch-size {fitting} is the largest that fits"
        else:
            advice = "lower --max-length or choose another --quantization-encoding"
        each = f" for each of {slots} sequences" if slots > 1 else ""
        raise MemoryLimitError(
            f"{self.pipeline} on {target} (weights {weights / 2**30:.1f} GiB, KV {slot / 2**30:.1f}"
            f" GiB{each}) needs {needed / 2**30:.1f} GiB of memory, {available / 2**30:.1f} GiB is"
            f" available; {advice}"
        )

    def make_network(self) -> nn.Module:
        """The decoder's torch module; imports torch and whatever the module is made of.

        Raises:
            OpPackageError: An op package cannot declare its operators, or the module uses one that
                no package declares.
        """
        for package in self.packages:
            package.declare_operators()
        module, _, function = self.network.partition(":")
        network: nn.Module = getattr(importlib.import_module(module), function)(self.config)
        return network


class Target(Protocol):
    """Something that decoders run on."""

    def start(self, job: Job) -> Runner:
        """Builds, lowers, compiles and loads.

        Raises:
            MemoryLimitError: Weights and KV state need more memory than there is.
            LoweringError: The graph has an operator that this target has no rule for.
            TargetError: The target is not here, or would run the graph elsewhere.
        """

    def versions(self) -> dict[str, str]:
        """Versions of what it runs on, by package."""
