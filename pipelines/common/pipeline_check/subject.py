"""What is checked: a pipeline of decoders or encoders, on random weights or on a model file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pipelines.common.checkpoints.checkpoint import Checkpoint
from pipelines.common.checkpoints.gguf.write import write_gguf
from pipelines.common.checkpoints.random import RandomWeights
from pipelines.common.decoder.mixture import MixtureConfig
from pipelines.common.errors import UsageError
from pipelines.common.files import is_folder, resolved
from pipelines.common.models.encoder import EncoderModel, EncoderPipeline
from pipelines.common.models.model import Model
from pipelines.common.program.encoder import TextEncoder
from pipelines.common.program.runner import Runner
from pipelines.common.program.target import Target
from pipelines.common.progress import Progress
from pipelines.common.registry.entries import Entry
from pipelines.common.registry.registry import Registry
from pipelines.common.text_generation import ModelOptions, ModelPipeline, RandomPipeline

ROOM = 64
"""Tokens that the runners of checks have room for, or the model's context if that is less."""

_TOKENS = 40

Opened: TypeAlias = Model | EncoderModel
Started: TypeAlias = Runner | TextEncoder


class Told(Progress):
    """Keeps what a user would be told.

    Attributes:
        messages: In the order in which they came.
    """

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def notice(self, message: str) -> None:
        """Keeps a message."""
        self.messages.append(message)


@dataclass(frozen=True)
class Subject:
    """A pipeline, and the weights that it is checked with.

    Attributes:
        pipeline: The pipeline's name.
        registry: Where it is registered.
        random: The random weights that it is opened with.
        path: A model file to open in their place.
    """

    pipeline: str
    registry: Registry = field(default_factory=Registry.discover, repr=False)
    random: RandomWeights = field(default_factory=RandomWeights)
    path: Path | None = None

    @classmethod
    def of(
        cls,
        pipeline: str,
        *plugins: Path,
        config: dict[str, Any] | None = None,
        seed: int = 0,
        path: Path | None = None,
    ) -> Subject:
        """A pipeline of a plugin that is loaded from a path.

        Args:
            pipeline: The pipeline's name.
            plugins: Plugins by path, beside those that are always found; of these it does not
                matter whether they are named too. What is wrong with one comes through.
            config: Sizes of the model, by the fields of its config; the rest are tiny.
            seed: Of the random weights.
            path: A model file to check it with, in the place of random weights.
        """
        registry = Registry.discover()
        if left := [path for path in plugins if not _is_found(path, registry)]:
            registry = Registry.discover(left, strict=True)
        return cls(pipeline, registry, RandomWeights(seed, config or {}), path)

    def varied(self, **changes: Any) -> Subject:
        """The same pipeline with other random weights: changes are fields of `RandomWeights`."""
        return replace(self, random=replace(self.random, **changes))

    def at(self, path: Path) -> Subject:
        """The same pipeline on a model file, or an exported folder."""
        return replace(self, path=path)

    def write(self, path: Path) -> Path:
        """Writes what it is opened with as a GGUF file; returns the path."""
        return write_gguf(self.checkpoint, path)

    @cached_property
    def loaded(self) -> ModelPipeline:
        """The pipeline itself."""
        return self.registry.load_pipeline(self.pipeline)

    @property
    def checkpoint(self) -> Checkpoint:
        """What it is opened with.

        Raises:
            UsageError: The pipeline does not run on random weights.
        """
        if self.path is not None:
            return self.registry.opener(self.path)(self.path)
        if not isinstance(self.loaded, RandomPipeline):
            raise UsageError(f"pipeline {self.pipeline} does not run on random weights")
        return self.loaded.random_checkpoint(self.random)

    def open(
        self,
        target: str = "cpu",
        encoding: str = "float32",
        *,
        native_ops: bool = False,
        custom_ops: Iterable[Path] = (),
        progress: Progress | None = None,
    ) -> Opened:
        """Opens it as the driver does.

        Args:
            target: What it is to run on.
            encoding: What the big matrices run in.
            native_ops: Whether the project's own CPU kernels are used.
            custom_ops: Op packages.
            progress: Told of everything.

        Raises:
            UsageError: The pipeline is none of decoders or encoders.
        """
        options = ModelOptions(
            model_path=self.path,
            encoding=encoding,
            target=target,
            native_ops=native_ops,
            custom_ops=tuple(custom_ops),
            random=None if self.path else self.random,
        )
        model = self.loaded.open(options, self.registry, progress or Progress())
        if not isinstance(model, Opened):
            raise UsageError(
                f"pipeline {self.pipeline} is of neither decoders nor encoders, which are what can"
                " be checked"
            )
        return model

    def start(self, model: Opened, *, slots: int = 1, target: Target | None = None) -> Started:
        """Has an opened model run.

        Args:
            model: The model.
            slots: Sequences of a decoder, which are held side by side.
            target: What to run on in the place of its own target.
        """
        if isinstance(model, EncoderModel):
            return model.start(target)
        return model.start(slots=slots, max_length=self.room, target=target)

    @cached_property
    def described(self) -> Opened:
        """It opened, for those who only look at what it is."""
        return self.open()

    @property
    def encodes(self) -> bool:
        """Whether it is a pipeline of encoders."""
        return isinstance(self.loaded, EncoderPipeline)

    @property
    def gives(self) -> str:
        """What its networks give."""
        return "vectors" if self.encodes else "logits"

    @property
    def chooses(self) -> bool:
        """Whether its tokens are given to some experts of several."""
        config = self.described.config
        return isinstance(config, MixtureConfig) and config.experts > 0

    @cached_property
    def room(self) -> int:
        """Tokens that a runner has room for."""
        return min(ROOM, self.described.context_length)

    @cached_property
    def tokens(self) -> list[int]:
        """A prompt."""
        count = min(_TOKENS, self.room - 1)
        vocabulary = self.described.config.vocabulary
        return np.random.default_rng(0).integers(vocabulary, size=count).tolist()

    @cached_property
    def reference(self) -> NDArray[np.float32]:
        """What the network gives for each of `tokens`, run eagerly: logits, or vectors."""
        return rows(self.start(self.open("torch")), self.tokens)


def rows(started: Started, tokens: Sequence[int]) -> NDArray[np.float32]:
    """The logits after each token, or the vectors of an encoder, ``[tokens, elements]``.

    Args:
        started: What computes.
        tokens: One sequence.
    """
    if isinstance(started, TextEncoder):
        (vectors,) = started.encode([tokens])
        return vectors
    return started.score(tokens)


def _is_found(path: Path, registry: Registry) -> bool:
    """Whether a plugin is found by itself: installed, or in the folder for plugins."""
    kinds: tuple[Mapping[str, Entry[Any]], ...] = (
        registry.pipelines,
        registry.targets,
        registry.op_packages,
    )
    entries = [entry for kind in kinds for entry in kind.values()]
    files = (Path(getattr(entry.plugin.module, "__file__", None) or "") for entry in entries)
    module = path / "__init__.py" if is_folder(path) else path
    return any(resolved(file) == resolved(module) for file in files)
