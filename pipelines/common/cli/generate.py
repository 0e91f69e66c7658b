"""Generating text: the command that all pipelines share, and ``run``, which finds the pipeline."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from pipelines.common.cli.chat_options import ChatOptions
from pipelines.common.cli.command import Command, pipeline_command
from pipelines.common.cli.console import ConsoleProgress
from pipelines.common.cli.context import registry_of
from pipelines.common.cli.generate_options import (
    BatchOptions,
    PromptOptions,
    ReportOptions,
    TextOptions,
)
from pipelines.common.cli.grouping import Without, grouped_options
from pipelines.common.cli.models import found, with_model
from pipelines.common.cli.offline import told_to_store
from pipelines.common.cli.options import ModelChoice, Quiet, Verbose, path_of
from pipelines.common.cli.random_weights import check_takes_random
from pipelines.common.cli.sampling_options import SamplingOptions
from pipelines.common.errors import ModelFileError, UsageError, quoted
from pipelines.common.registry.hookspecs import PipelineRecord

if TYPE_CHECKING:
    from pipelines.common.registry.registry import Registry
    from pipelines.common.requests.text import Defaults
    from pipelines.common.text_generation import ModelOptions, TextPipeline


TASK: Final = "generate"
"""The task that pipelines of these commands are for."""


def command(record: PipelineRecord) -> Command:
    """The sub-command of a pipeline."""
    return pipeline_command(record, _generate_with)


@grouped_options
def _generate_with(
    ctx: typer.Context,
    prompts: PromptOptions,
    batch: BatchOptions,
    chat: ChatOptions,
    model: ModelChoice,
    text: TextOptions,
    sampling: SamplingOptions,
    report: ReportOptions,
) -> None:
    assert ctx.info_name is not None
    _generate(ctx, ctx.info_name, prompts, batch, chat, model, text, sampling, report)


@grouped_options
def generate(
    ctx: typer.Context,
    path: Annotated[
        Path,
        typer.Argument(
            parser=path_of("MODEL"), metavar="MODEL", help="Model file, folder or name."
        ),
    ],
    prompts: PromptOptions,
    batch: BatchOptions,
    chat: ChatOptions,
    model: Annotated[ModelChoice, Without("model_path")],
    text: TextOptions,
    sampling: SamplingOptions,
    report: ReportOptions,
) -> None:
    """Run a model with the pipeline that it is for.

    A file says what its architecture is, and a folder which pipeline has exported it.
    """
    progress = ConsoleProgress(quiet=report.quiet, verbose=report.verbose)
    name, chosen = _with_pipeline(ctx, path, model, progress)
    _generate(ctx, name, prompts, batch, chat, chosen, text, sampling, report)


@grouped_options
def talk(
    ctx: typer.Context,
    path: Annotated[
        Path,
        typer.Argument(
            parser=path_of("MODEL"), metavar="MODEL", help="Model file or exported folder."
        ),
    ],
    chat: Annotated[ChatOptions, Without("chat")],
    model: Annotated[ModelChoice, Without("model_path")],
    text: TextOptions,
    sampling: SamplingOptions,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Talk with a model: a conversation, one message after the other.

    They are typed, or come from a pipe, one a line.
    """
    report = ReportOptions(quiet=quiet, verbose=verbose)
    progress = ConsoleProgress(quiet=quiet, verbose=verbose)
    name, chosen = _with_pipeline(ctx, path, model, progress)
    _converse(ctx, name, replace(chat, chat=True), chosen, text, sampling, report)


def _with_pipeline(
    ctx: typer.Context, path: Path, model: ModelChoice, progress: ConsoleProgress
) -> tuple[str, ModelChoice]:
    """The pipeline that a model is for, and the options with its path."""
    registry = registry_of(ctx)
    path = found(path, registry, progress, offline=model.offline)
    return _pipeline_for(path, registry), replace(model, model_path=path)


def _pipeline_for(path: Path, registry: Registry) -> str:
    """The pipeline that a model is for.

    Raises:
        ModelFileError: There is none, or the model cannot be read.
        UsageError: There are several.
    """
    from pipelines.common.export.manifest import is_exported, read_manifest

    if is_exported(path):
        return read_manifest(path).pipeline
    architecture = registry.opener(path)(path).metadata.string("general.architecture")
    names = registry.pipelines_for(architecture)
    if not names:
        known = (entry.record.architectures for entry in registry.pipelines.values())
        there = ", ".join(sorted(name for names in known for name in names))
        raise ModelFileError(
            f"{path}: no pipeline here runs architecture {quoted(architecture)}; there are some for"
            f" {there}, and a plugin can bring another"
        )
    if len(names) > 1:
        raise UsageError(
            f"{path}: pipelines {' and '.join(names)} run architecture {quoted(architecture)}; name"
            f" one: {names[0]} `model_path` {path}"
        )
    if (task := registry.pipelines[names[0]].record.task) != TASK:
        raise UsageError(
            f"{path} is a model of pipeline {names[0]}, whose task is '{task}'; use {names[0]}"
            f" `model_path` {path}"
        )
    return names[0]


def _generate(
    ctx: typer.Context,
    name: str,
    prompts: PromptOptions,
    batch: BatchOptions,
    chat: ChatOptions,
    model: ModelChoice,
    text: TextOptions,
    sampling: SamplingOptions,
    report: ReportOptions,
) -> None:
    """Runs a pipeline on one prompt, or on a batch of them, or in a conversation."""
    chat.check(rows=prompts.prompts_file is not None)
    if chat.chat and not prompts.given and not batch.asked_for and _is_typed():
        if option := report.for_one_message:
            raise UsageError(f"{option} is for a single message; add --prompt TEXT")
        _converse(ctx, name, chat, model, text, sampling, report)
        return

    # NumPy and the tokenizers are imported here, out of the way of --help and list.
    from pipelines.common.cli.run import Generation, run

    texts = prompts.read(default=not chat.chat)
    registry = registry_of(ctx)
    defaults = replace(_defaults(registry, text, sampling), logprobs=report.logprobs)
    progress = ConsoleProgress(quiet=report.quiet, verbose=report.verbose)
    one = len(texts) == 1 and not batch.asked_for
    if one and report.logprobs is not None and not report.as_json:
        raise UsageError("--logprobs is told in a record; add --json")
    pipeline, options = _chosen(registry, name, model, progress)
    if one:
        with told_to_store(name, options):
            opened = pipeline.open(options, registry, progress)
            asked = Generation(
                defaults.request(texts[0]),
                reader=chat.reader(opened, special_tokens=not prompts.no_special_tokens),
                hide_thinking=chat.hide_thinking,
                max_length=text.max_length,
                num_warmups=report.num_warmups,
            )
            sequence = run(
                opened, asked, progress, as_json=report.as_json, figures=not report.quiet
            )
        if sequence.finish_reason == "interrupted":
            raise typer.Exit(130)
        return

    from pipelines.common.cli.batch import BatchRequest, run_batch

    if report.num_warmups:
        raise UsageError("--num-warmups is for a single prompt; leave it out of a batch")
    if chat.hide_thinking:
        raise UsageError("--hide-thinking is for a single message; leave it out of a batch")
    request = BatchRequest(
        pipeline=name,
        texts=texts * (batch.batch_size or 1) if len(texts) == 1 else texts,
        prompts_file=prompts.prompts_file,
        options=batch,
        defaults=defaults,
        seed=sampling.asked_seed,
        reader=lambda opened: chat.reader(opened, special_tokens=not prompts.no_special_tokens),
        max_length=text.max_length,
        as_json=report.as_json,
    )
    with told_to_store(name, options):
        run_batch(lambda: pipeline.open(options, registry, progress), request, progress)


def _converse(
    ctx: typer.Context,
    name: str,
    chat: ChatOptions,
    model: ModelChoice,
    text: TextOptions,
    sampling: SamplingOptions,
    report: ReportOptions,
) -> None:
    """Has a conversation with a model."""
    from pipelines.common.cli.chat import Conversation, converse

    registry = registry_of(ctx)
    defaults = _defaults(registry, text, sampling)
    progress = ConsoleProgress(quiet=report.quiet, verbose=report.verbose)
    pipeline, options = _chosen(registry, name, model, progress)
    asked = Conversation(
        name=name if model.model_path is None else model.model_path.name,
        system=chat.system_prompt,
        defaults=defaults,
        usual_reply=_is_default(ctx, "max_new_tokens"),
        max_length=text.max_length,
        hide_thinking=chat.hide_thinking,
    )
    with told_to_store(name, options):
        opened = pipeline.open(options, registry, progress)
        converse(opened, chat.reader(opened, special_tokens=False), asked, progress)


def _defaults(registry: Registry, text: TextOptions, sampling: SamplingOptions) -> Defaults:
    """What holds for prompts that say nothing else."""
    from pipelines.common.requests.text import Defaults

    return Defaults(
        sampling.params(registry),
        text.max_new_tokens,
        tuple(text.stop or ()),
        registry.load_sampler,
    )


def _chosen(
    registry: Registry, name: str, model: ModelChoice, progress: ConsoleProgress
) -> tuple[TextPipeline, ModelOptions]:
    """The pipeline, and what it is to open for which target."""
    from pipelines.common.export.manifest import target_for
    from pipelines.common.registry.target_choice import choose

    model = with_model(model, registry, progress)
    target = target_for(model.model_path, model.target, registry.targets)
    options = model.options(choose(registry, target, model.device_id, progress))
    pipeline = registry.load_pipeline(name)
    check_takes_random(pipeline, name, options)
    return pipeline, options


def _is_default(ctx: typer.Context, option: str) -> bool:
    """Whether an option was left out."""
    source = ctx.get_parameter_source(option)
    return source is not None and source.name == "DEFAULT"


def _is_typed() -> bool:
    """Whether stdin is a terminal."""
    return sys.stdin is not None and sys.stdin.isatty()
