"""Every extension point of the project.

A plugin is a module whose functions carry `hookimpl` and are named like the hooks below. Each hook
returns small frozen records: a name, a summary, and how to get the real thing. The registry
collects the records at every start and gets the real thing when it is used, so a plugin's module
imports nothing heavy itself. What ships with the project, its commands and samplers too, is
registered through these same hooks, in `pipelines.common.registry.builtins`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, TypeVar

import pluggy

if TYPE_CHECKING:
    from pipelines.common.checkpoints.checkpoint import Checkpoint
    from pipelines.common.checkpoints.tokenizer_source import AnyTokenizer, TokenizerSource
    from pipelines.common.engine.sampling.sampler import Sampler, Setup
    from pipelines.common.program.target import Target

PROJECT = "run_pipeline"

API_VERSION: Final = 2
"""Of what plugins use: these hooks and records, and `pipelines.plugin`. It grows when something in
them is taken away or comes to mean another thing; what is only added leaves it as it is."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)
"""Marks a function of a plugin's module as the hook that it is named like."""

F = TypeVar("F", bound=Callable[..., object])

Lazy: TypeAlias = F | str
"""A function that is called when its result is needed, or the name of one.

The name is written ``"package.module:function"``, and the module is imported at the first call; a
class will do, since calling it makes an instance. A plugin that is a package in a folder writes
``f"{__name__}.module:function"``; one that is a single file gives the function itself, which does
its heavy imports inside.
"""


class Translation(Protocol):
    """What a weight format has to know of a family; the rest is between the two."""

    @property
    def format(self) -> str:
        """Name of the weight format."""


@dataclass(frozen=True)
class PipelineRecord:
    """A pipeline, which becomes the sub-command `name`.

    Attributes:
        name: Lower-case letters, digits, ``-`` and ``_``; unique among pipelines.
        summary: One line for lists and help.
        load: Makes the pipeline.
        architectures: What model files call the architectures that it runs; who gives such a file
            to another pipeline is told of this one.
        task: Name of the task that it is for, which is what its command does.
        translations: What formats that have names of their own need to know of the family to say
            what its GGUF files do, as `HuggingFaceModel`; each has the name of its `format`.
        short_names: Models of Hugging Face's hub, by what users may call them for short:
            ``{"model-1b": "owner/Model-1B"}``.
    """

    name: str
    summary: str
    load: Lazy[Callable[[], Any]]
    architectures: tuple[str, ...] = ()
    task: str = "generate"
    translations: tuple[Translation, ...] = ()
    short_names: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class TaskRecord:
    """What can be asked of pipelines: the command of each that is for it.

    Attributes:
        name: Lower-case letters, digits, ``-`` and ``_``; unique among tasks.
        summary: One line for ``list``.
        command: Makes the command of a pipeline, a `click.Command`, given its record. What the
            record's `load` returns is between the pipeline and the task: a `TextPipeline` for
            ``generate``, an `EncoderPipeline` for ``embed``. Commands that build for a model ask
            for a `ModelPipeline`, whatever its task is.
    """

    name: str
    summary: str
    command: Lazy[Callable[[PipelineRecord], Any]]


@dataclass(frozen=True)
class TargetRecord:
    """Something that graphs are lowered for and run on: what users choose by name.

    Attributes:
        name: Lower-case letters, digits, ``-`` and ``_``; unique among targets.
        summary: One line for ``list``.
        requires: Top-level modules that have to be importable. They are looked for, not imported,
            to tell whether the target is available.
        load: Makes the target.
        preference: Of the targets that can run here, target ``auto`` takes the one with the
            highest; one with 0 has to be asked for by name.
    """

    name: str
    summary: str
    requires: tuple[str, ...]
    load: Lazy[Callable[[], Target]]
    preference: int = 0


@dataclass(frozen=True)
class WeightFormatRecord:
    """A format that models are read from, of files or of folders.

    A file is told by its first bytes, whatever its name is, and by its name where they tell
    nothing; a folder by a file that it holds.

    Attributes:
        name: Lower-case letters, digits, ``-`` and ``_``; unique among weight formats.
        summary: One line for ``list``.
        suffixes: File name endings, each with its dot, lower case; unique among weight formats.
        open: Opens and validates a file, or a folder; raises `ModelFileError` for one it does not
            accept. It is called with the path, and with the `Opening` as ``opening``, which says
            how tensors come into memory and what families bring for the format.
        magic: What files of it begin with, if that is always one of a few; no format's may begin
            with another's.
        files: Names of files, one of which is in every folder of it; named itself, such a file
            stands for its folder. A folder that holds files of two formats is of the one that was
            registered first.
    """

    name: str
    summary: str
    suffixes: tuple[str, ...]
    open: Lazy[Callable[..., Checkpoint]]
    magic: tuple[bytes, ...] = ()
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class TokenizerRecord:
    """A kind of tokenizer that model files carry the vocabulary of.

    Attributes:
        name: What files call it, in ``tokenizer.ggml.model``; unique among tokenizers.
        summary: One line for ``list``.
        load: Makes the tokenizer of a checkpoint: a `Tokenizer`, or `WordPieces` for encoders.
            Raises `TokenizerError` for a vocabulary that it does not accept.
    """

    name: str
    summary: str
    load: Lazy[Callable[[TokenizerSource], AnyTokenizer]]


@dataclass(frozen=True)
class OpPackageRecord:
    """A custom op package that models of the same plugin's pipelines run with.

    Whoever runs another model with it names it, see `ModelOptions.custom_ops`.

    Attributes:
        name: Lower-case letters, digits, ``-`` and ``_``; unique among op packages.
        summary: One line for ``list``.
        path: A folder with a manifest, a ``.py`` file or a shared library; the package is loaded
            when a model is run.
        everywhere: Whether the models of all pipelines run with it, where its rules fit.
    """

    name: str
    summary: str
    path: Path
    everywhere: bool = False


@dataclass(frozen=True)
class CommandRecord:
    """A command of the program, beside those of pipelines.

    Attributes:
        name: Lower-case letters, digits, ``-`` and ``_``; unique among commands and pipelines.
        summary: One line for lists and help.
        command: A function as typer takes it, whose annotated parameters are options and arguments,
            or a `typer.Typer` with several; or the name of one, which is imported when the command
            is used. Its documentation is the help; where it has none, the summary is.
    """

    name: str
    summary: str
    command: Lazy[Callable[..., Any]]


@dataclass(frozen=True)
class SamplerRecord:
    """A step on the way from logits to the next token, which users name where it has a part.

    Attributes:
        name: Lower-case letters, digits, ``-`` and ``_``; unique among samplers.
        summary: One line for ``list``.
        load: Makes the sampler of a sequence of its `Setup`; None where it would change nothing.
        settings: What users can set, as ``name(setting=0.5)``, and what it is otherwise. They are
            what `load` finds in `Setup.settings`.
    """

    name: str
    summary: str
    load: Lazy[Callable[[Setup], Sampler | None]]
    settings: Mapping[str, float] = field(default_factory=dict)


Record: TypeAlias = (
    PipelineRecord
    | TargetRecord
    | WeightFormatRecord
    | TokenizerRecord
    | OpPackageRecord
    | TaskRecord
    | CommandRecord
    | SamplerRecord
)


@hookspec
def register_pipelines() -> Sequence[PipelineRecord]:
    """The pipelines that this plugin brings."""
    raise NotImplementedError


@hookspec
def register_tasks() -> Sequence[TaskRecord]:
    """The tasks that this plugin brings."""
    raise NotImplementedError


@hookspec
def register_targets() -> Sequence[TargetRecord]:
    """The targets that this plugin brings."""
    raise NotImplementedError


@hookspec
def register_weight_formats() -> Sequence[WeightFormatRecord]:
    """The weight formats that this plugin brings."""
    raise NotImplementedError


@hookspec
def register_tokenizers() -> Sequence[TokenizerRecord]:
    """The kinds of tokenizers that this plugin brings."""
    raise NotImplementedError


@hookspec
def register_op_packages() -> Sequence[OpPackageRecord]:
    """The custom op packages that this plugin brings."""
    raise NotImplementedError


@hookspec
def register_commands() -> Sequence[CommandRecord]:
    """The commands that this plugin brings."""
    raise NotImplementedError


@hookspec
def register_samplers() -> Sequence[SamplerRecord]:
    """The samplers that this plugin brings."""
    raise NotImplementedError
