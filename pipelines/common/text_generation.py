"""What pipelines give the driver, those of any task and those that generate text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from pipelines.common.cache import Cache
from pipelines.common.chat.template import ChatSettings
from pipelines.common.checkpoints.checkpoint import Checkpoint
from pipelines.common.checkpoints.opening import STRATEGIES, Strategy
from pipelines.common.checkpoints.random import RandomWeights
from pipelines.common.checkpoints.tokenizer_source import AnyTokenizer, TokenizerSource
from pipelines.common.errors import ParameterError, UsageError
from pipelines.common.files import typed_path
from pipelines.common.op_packages.find import FoundPackage
from pipelines.common.program.package import LoadedPackage
from pipelines.common.program.runner import Runner
from pipelines.common.program.target import Deployment, Target
from pipelines.common.progress import Progress
from pipelines.common.system import runnable_cores
from pipelines.common.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class ModelOptions:
    """What the user asked for about the model itself.

    Attributes:
        model_path: The model, a file or a folder; None for the one that ships with the pipeline.
        tokenizer_path: A tokenizer to use in place of the model's own: a ``tokenizer.json``, a
            ``tokenizer.model``, or a folder that has one.
        encoding: ``q4_0``, ``q8_0``, ``float32`` or ``auto``, which is as they are stored: what the
            big matrices run in. Left out, it is ``q4_0`` for the pipeline's own model, and
            ``auto`` for others.
        target: Name of the target to run on.
        device: Which of its devices.
        threads: Threads of the target's pool; None for as many as may be kept busy.
        custom_ops: Op packages by path or registered name; of two for one pattern, the last wins.
        native_ops: Whether the kernels that ship with the project are used where they can be.
        registered_ops: Whether they, and the op packages of plugins, are used without being named.
        offline: Whether whatever can be in the cache has to be there.
        weights: How tensors come into memory: ``mmap`` or ``heap``, see `Strategy`.
        pack_cache: Whether what a target packs weights into is kept in the cache.
        random: Random weights to run on: of a tiny model, or in the place of the model file's own;
            None for weights as they are.

    Paths may be given as texts, see `pipelines.common.files.typed_path`.

    Raises:
        ParameterError: A value is of another type, or out of its range.
        UsageError: A path is no path of a file.
    """

    model_path: Path | None = None
    tokenizer_path: Path | None = None
    encoding: str = ""
    target: str = "cpu"
    device: int = 0
    threads: int | None = None
    custom_ops: tuple[Path, ...] = ()
    native_ops: bool = True
    registered_ops: bool = True
    offline: bool = False
    weights: Strategy = "mmap"
    pack_cache: bool = False
    random: RandomWeights | None = None

    def __post_init__(self) -> None:
        for name in ("model_path", "tokenizer_path"):
            path = getattr(self, name)
            if path is not None:
                object.__setattr__(self, name, _path(name, path))
        if isinstance(self.custom_ops, str) or not isinstance(self.custom_ops, Sequence):
            raise ParameterError("custom_ops", self.custom_ops, "a sequence of paths")
        if self.encoding == "":
            is_own = self.model_path is None and self.random is None
            left_out = "q4_0" if is_own else "auto"
            object.__setattr__(self, "encoding", left_out)
        packages = tuple(_path("custom_ops", path) for path in self.custom_ops)
        object.__setattr__(self, "custom_ops", packages)
        for name in ("encoding", "target"):
            if not isinstance(getattr(self, name), str):
                raise ParameterError(name, getattr(self, name), "a name")
        if self.weights not in STRATEGIES:
            raise ParameterError("weights", self.weights, " or ".join(STRATEGIES))
        if self.random is not None and not isinstance(self.random, RandomWeights):
            raise ParameterError("random", self.random, "RandomWeights")
        for name, least in (("device", 0), ("threads", 1)):
            number = getattr(self, name)
            if name == "threads" and number is None:
                continue
            if not isinstance(number, int) or isinstance(number, bool) or number < least:
                raise ParameterError(name, number, f"an integer, {least} or more")

    def threads_here(self, progress: Progress) -> int | None:
        """Threads of the target's pool: those asked for, as far as there are cores for them.

        More would wait for each other, the longer the more there are.

        Args:
            progress: Told when there are fewer cores.
        """
        usable = runnable_cores()
        if self.threads is None or self.threads <= usable:
            return self.threads
        progress.notice(
            f"{self.threads} threads were asked for, and this process may run on {usable} cores;"
            f" {usable} compute"
        )
        return usable

    def cache(self, notice: Callable[[str], None]) -> Cache:
        """The user's cache, which has to hold everything if they are offline.

        Args:
            notice: Told, in one line, what was found to be damaged.
        """
        return Cache.default(offline=self.offline, notice=notice)


def _path(name: str, value: object) -> Path:
    """The path that an option is given, which may be a text as a user types it."""
    if isinstance(value, Path):
        return value
    if not isinstance(value, str):
        raise ParameterError(name, value, "a path")
    try:
        return typed_path(value)
    except ValueError as error:
        raise UsageError(f"`{name}` {error}") from error


class PackageLookup(Protocol):
    """Where a pipeline finds op packages, see `pipelines.common.registry.op_packages`."""

    def of_model(
        self, options: ModelOptions, progress: Progress, pipeline: str | None = None
    ) -> tuple[LoadedPackage, ...]:
        """Those that a model runs with, see `OpPackages.of_model`."""

    def typed_by(self, options: ModelOptions) -> tuple[FoundPackage, ...]:
        """Those that the user named, see `OpPackages.typed_by`."""

    def registered(self, name: str) -> FoundPackage | None:
        """The one of that registered name, see `OpPackages.registered`."""

    def load(self, package: FoundPackage, target: str | None = None) -> LoadedPackage:
        """Loads one that was found, see `OpPackages.load`."""

    def with_rule_for(self, operator: str) -> dict[str, list[str]]:
        """Those with a rule for an operator, see `OpPackages.with_rule_for`."""


class Lookup(Protocol):
    """Where a pipeline finds what plugins have registered: the registry, to its users."""

    @property
    def packages(self) -> PackageLookup:
        """Op packages, registered and named by users."""

    def load_target(self, name: str) -> Target:
        """The target of that name, see `Registry.load_target`."""

    def opener(self, path: Path, weights: Strategy = "mmap") -> Callable[[Path], Checkpoint]:
        """What opens a model, see `Registry.opener`."""

    def tokenizer(self, source: TokenizerSource) -> AnyTokenizer:
        """The tokenizer of a checkpoint, see `Registry.tokenizer`."""

    def pipelines_for(self, architecture: str) -> list[str]:
        """The pipelines that run an architecture, see `Registry.pipelines_for`."""


class TextModel(Protocol):
    """An opened model: cheap until `start`, so that bad input is found before the heavy work."""

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer."""

    @property
    def context_length(self) -> int:
        """Most tokens, prompt and output together, that the model was made for."""

    def start(self, *, slots: int, max_length: int) -> Runner:
        """Builds, lowers, compiles and loads what the caches do not hold already.

        Args:
            slots: Sequences to hold side by side.
            max_length: Tokens that each of them can grow to.
        """

    def describe(self) -> dict[str, Any]:
        """What runs: model, encodings, target, versions; JSON values only."""


@runtime_checkable
class ChatModel(TextModel, Protocol):
    """A model that says how conversations are put to it, as most model files do."""

    @property
    def chat(self) -> ChatSettings:
        """What it says."""


def chat_settings(model: object) -> ChatSettings:
    """What a model says of conversations, which may be nothing."""
    return model.chat if isinstance(model, ChatModel) else ChatSettings()


@runtime_checkable
class GraphModel(Protocol):
    """A model that targets lower to a graph, whatever it is for."""

    @property
    def context_length(self) -> int:
        """Most tokens of a sequence that the model was made for."""

    @property
    def target(self) -> Target:
        """The target asked for."""

    def deployment(self, *, slots: int, max_length: int) -> Deployment:
        """What the target is given.

        Args:
            slots: Sequences to hold side by side.
            max_length: Tokens that each of them can grow to.
        """

    def documents(self) -> Mapping[str, bytes]:
        """What a folder has of it beside graph and weights: contents by the file's name."""

    def exported(self, folder: Path) -> GraphModel:
        """The same model from the folder that it was exported to, for the same target.

        Raises:
            PipelineError: It cannot be opened.
        """


@runtime_checkable
class ModelPipeline(Protocol):
    """A pipeline that opens models, whatever they are for."""

    def open(self, options: ModelOptions, registry: Lookup, progress: Progress) -> Any:
        """Opens and validates a model, see `TextPipeline.open`."""


class TextPipeline(ModelPipeline, Protocol):
    """What a text-generation plugin's record loads."""

    def open(self, options: ModelOptions, registry: Lookup, progress: Progress) -> TextModel:
        """Opens and validates the model file and its tokenizer.

        Args:
            options: What the user asked for.
            registry: Where targets and weight formats are looked up.
            progress: Told of every phase, and of what the user should know.
        """


@runtime_checkable
class RandomPipeline(ModelPipeline, Protocol):
    """A pipeline that takes `ModelOptions.random`."""

    def random_checkpoint(self, wanted: RandomWeights) -> Checkpoint:
        """A checkpoint of no file, with the tensors that its network has.

        Args:
            wanted: What is asked for.

        Raises:
            ParameterError: A size is none that the network has, or not of its type.
            ModelFileError: A size is out of range, or contradicts another.
        """


@runtime_checkable
class TokenizerPipeline(TextPipeline, Protocol):
    """A pipeline that opens a tokenizer without the model, as of files that hold nothing else."""

    def open_tokenizer(
        self, options: ModelOptions, registry: Lookup, progress: Progress
    ) -> Tokenizer:
        """Opens and validates the tokenizer, see `open`."""
