"""What a target is given and what it has to do."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from numpy.typing import NDArray

from pipelines.common.cache import Cache
from pipelines.common.errors import MemoryLimitError, ParameterError
from pipelines.common.graph.rules import LoweredGraph, LoweredWeight, Rule
from pipelines.common.nn.interface import Interface
from pipelines.common.program.origin import Origin
from pipelines.common.program.package import Layout, LoadedPackage
from pipelines.common.program.runner import Runner
from pipelines.common.progress import Progress
from pipelines.common.system import available_memory

Check: TypeAlias = Callable[[LoweredGraph], None]
"""Raises `LoweringError` for a graph that the target would not run."""


class Weights(Protocol):
    """All weights of a program, in the encodings that they run in."""

    @property
    def total_bytes(self) -> int:
        """Bytes of all, shared ones counted once."""

    @property
    def fingerprint(self) -> str:
        """A digest of all; finding it may read the whole checkpoint."""


class Program(Protocol):
    """A network with its weights, as targets take it: a graph, and the tensors of that graph."""

    @property
    def interface(self) -> Interface:
        """What the network takes, keeps and gives."""

    @property
    def numbers(self) -> Mapping[str, Any]:
        """What the network was made of, by name; JSON values."""

    @property
    def encodings(self) -> Mapping[str, str]:
        """Names of the encodings that the weights run in, by parameter."""

    @property
    def weights(self) -> Weights:
        """The weights in those encodings."""

    @property
    def cache(self) -> Cache:
        """Where a target keeps what it makes of it."""

    @property
    def folder(self) -> Path | None:
        """The exported folder that the graph is read from; None if it is made here."""

    def origin(self, progress: Progress) -> Origin:
        """What it was made of; finding the fingerprint may take reading it.

        Args:
            progress: Told while that takes long.
        """

    def lowered(
        self,
        deployment: Deployment,
        target: str,
        rules: Sequence[Rule],
        activations: str,
        check: Check | None = None,
    ) -> LoweredGraph:
        """The graph for a target.

        Args:
            deployment: What it is for.
            target: Name of the target.
            rules: The target's own; those of the deployment's op packages come before them.
            activations: The type of the activations.
            check: Asked about a graph that is newly made, before it is kept.

        Raises:
            LoweringError: It has an operator that no rule takes, or `check` refuses it.
            ModelFileError: There is only a graph for another target.
        """

    def identity(self, weight: LoweredWeight) -> Hashable:
        """Equal for tensors of a graph that share their memory."""

    def tensors(
        self,
        graph: LoweredGraph,
        layouts: Mapping[str, Layout],
        packages: Sequence[LoadedPackage] = (),
    ) -> Iterator[tuple[Sequence[LoweredWeight], NDArray[Any]]]:
        """The graph's tensors one after the other, as `graph.tensors.make_tensors` makes them."""


@dataclass(frozen=True)
class Footprint:
    """What a run takes beside the program itself, in bytes.

    Attributes:
        weights: All weights, in the forms that the target makes of them.
        slot: The KV state of one sequence at its largest.
        slots: Sequences side by side.
        working: What is computed at once, whatever the slots: activations, rotary tables.
        logits: Those of one sequence.
        on_device: Whether that is the memory of a device that has its own.
    """

    weights: int
    slot: int = 0
    slots: int = 1
    working: int = 0
    logits: int = 0
    on_device: bool = False

    @property
    def state(self) -> int:
        """The KV state of all sequences."""
        return self.slots * self.slot

    @property
    def computing(self) -> int:
        """What is computed at once, with the logits of all sequences."""
        return self.working + self.slots * self.logits

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.state + self.computing


@dataclass(frozen=True)
class Deployment:
    """A network to be made to run.

    Attributes:
        pipeline: Name of the pipeline.
        program: Network and weights.
        slots: Sequences side by side.
        max_length: Tokens that each of them can grow to.
        progress: Told of every phase.
        threads: Threads to compute with; None for as many as may be kept busy.
        device: Which of the target's devices to run on.
        packages: Op packages, the one whose rules come first at the front.
        pack_cache: Whether tensors that layouts make are kept in the cache, see `kept`.

    Raises:
        ParameterError: There are no slots, or they hold nothing.
    """

    pipeline: str
    program: Program
    slots: int
    max_length: int
    progress: Progress
    threads: int | None = None
    device: int = 0
    packages: tuple[LoadedPackage, ...] = ()
    pack_cache: bool = False

    def __post_init__(self) -> None:
        for name in ("slots", "max_length"):
            if getattr(self, name) < 1:
                raise ParameterError(name, getattr(self, name), "1 or more")

    @property
    def interface(self) -> Interface:
        """What the network takes, keeps and gives."""
        return self.program.interface

    @property
    def state_elements(self) -> int:
        """Numbers in the KV state of one slot at its largest: keys and values of all layers."""
        return self.interface.token_elements * self.max_length

    def require_memory(
        self, target: str, footprint: Footprint, available: int | None = None
    ) -> None:
        """Checks that what it takes fits into available memory.

        Args:
            target: Name of the target, for the message.
            footprint: What it takes there.
            available: Bytes that a device has free; None asks for the machine's memory.

        Raises:
            MemoryLimitError: It does not fit; the error says how many slots would.
        """
        kind = "memory" if available is None else "device memory"
        needed, slot = footprint.total, footprint.slot + footprint.logits
        available = available_memory() if available is None else available
        if needed <= available:
            return
        rest = footprint.weights + footprint.working
        fitting = max(0, available - rest) // slot if slot else 0
        if fitting and footprint.slots > 1:
            advice = f"`slots` {fitting} is the largest that fits"
        else:
            advice = "lower `max_length` or choose another `encoding`"
        each = f" for each of {footprint.slots} sequences" if footprint.slots > 1 else ""
        parts = f"weights {_gib(footprint.weights)}, KV {_gib(footprint.slot)}{each}"
        raise MemoryLimitError(
            f"{self.pipeline} on {target} ({parts}, working memory {_gib(footprint.computing)})"
            f" needs {_gib(needed)} of {kind}, {_gib(available)} is available; {advice}",
            needed=needed,
            available=available,
            slots=fitting,
        )


def _gib(nbytes: int) -> str:
    return f"{nbytes / 2**30:.1f} GiB"


@dataclass(frozen=True)
class Device:
    """One of the devices of a target.

    Attributes:
        name: What its maker calls it.
        memory: Bytes of its memory; None where that is not known.
        free: Bytes of it that nobody uses; None where that is not known.
    """

    name: str
    memory: int | None = None
    free: int | None = None


@dataclass(frozen=True)
class Availability:
    """Whether a target can run here.

    Attributes:
        devices: What it can run on, in the order of their numbers; none if it cannot.
        reason: Why it cannot; empty if it can.
        fix: A command, or what else would change that; empty if nothing would.
        device_found: Whether its device is here, and only something else is missing.
    """

    devices: tuple[Device, ...] = ()
    reason: str = ""
    fix: str = ""
    device_found: bool = False

    @property
    def here(self) -> bool:
        """Whether it can run."""
        return not self.reason

    def check(self) -> None:
        """Makes sure that it is what its fields say.

        Raises:
            TypeError: It is not.
        """
        if not isinstance(self.reason, str) or not isinstance(self.fix, str):
            raise TypeError("an Availability's reason and fix are texts")
        if not isinstance(self.devices, tuple):
            raise TypeError(f"an Availability's devices are {self.devices!r}; expected a tuple")
        for device in self.devices:
            if not isinstance(device, Device):
                raise TypeError(f"{device!r} among an Availability's devices is no Device")
        if self.here and not self.devices:
            raise TypeError("an Availability has neither a device nor a reason why there is none")


class Target(Protocol):
    """Something that networks run on."""

    def availability(self) -> Availability:
        """Looks at the machine; quick where the target is not here, since ``auto`` asks."""

    @property
    def layouts(self) -> Mapping[str, Layout]:
        """How it lays weights out, by the names that its rules use."""

    def lower(self, deployment: Deployment) -> LoweredGraph:
        """The graph that `start` compiles; the target need not be here.

        Raises:
            LoweringError: The graph has an operator that this target has no rule for.
            TargetError: The target runs no graphs.
        """

    def prepare(self, deployment: Deployment) -> None:
        """Makes what `start` takes from the cache, and stores it; the target need not be here.

        Raises:
            CacheError: It cannot be stored.
            LoweringError: See `lower`.
            TargetError: See `lower`.
        """

    def start(self, deployment: Deployment) -> Runner:
        """Builds, lowers, compiles and loads.

        Raises:
            MemoryLimitError: Weights and KV state need more memory than there is.
            LoweringError: The graph has an operator that this target has no rule for.
            TargetError: The target is not here, or would run the graph elsewhere.
        """

    def versions(self) -> dict[str, str]:
        """Versions of what it runs on, by package."""
