"""Generating text: the command that all pipelines share, and ``run``, which finds the pipeline."""

from __future__ import annotations

import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
from pipelines.common.cli.offline import told_to_store
from pipelines.common.cli.options import ModelChoice, NamedModel, Quiet, Verbose, path_of
from pipelines.common.cli.sampling_options import SamplingOptions
from pipelines.common.cli.text_models import chosen, with_pipeline
from pipelines.common.errors import UsageError
from pipelines.common.registry.hookspecs import PipelineRecord

if TYPE_CHECKING:
    from pipelines.common.registry.registry import Registry
    from pipelines.common.requests.text import Defaults
    from pipelines.common.text_generation import TextModel


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
    path: NamedModel,
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
    name, model = with_pipeline(ctx, path, model, progress)
    _generate(ctx, name, prompts, batch, chat, model, text, sampling, report)


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
    name, model = with_pipeline(ctx, path, model, progress)
    _converse(ctx, name, replace(chat, chat=True), model, text, sampling, report)


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
    pipeline, options = chosen(registry, name, model, progress)
    if one:
        with told_to_store(name, options):
            opened = pipeline.open(options, registry, progress)
            asked = Generation(
                _in_chat(ctx, chat, opened, defaults, progress).request(texts[0]),
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
    if batch.n > 1 and len(texts) != 1:
        raise UsageError("--n is for one prompt; rows of --prompts-file have a field for it, n")
    count = batch.n if batch.n > 1 else batch.batch_size or 1
    request = BatchRequest(
        pipeline=name,
        texts=texts * count if len(texts) == 1 else texts,
        prompts_file=prompts.prompts_file,
        options=batch,
        defaults=defaults,
        defaults_of=lambda opened, given: _in_chat(ctx, chat, opened, given, progress),
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
    pipeline, options = chosen(registry, name, model, progress)
    with told_to_store(name, options):
        opened = pipeline.open(options, registry, progress)
        asked = Conversation(
            name=name if model.model_path is None else model.model_path.name,
            system=chat.system_prompt,
            defaults=_in_chat(ctx, chat, opened, defaults, progress),
            usual_reply=_is_default(ctx, "max_new_tokens"),
            max_length=text.max_length,
            hide_thinking=chat.hide_thinking,
        )
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


def _in_chat(
    ctx: typer.Context,
    chat: ChatOptions,
    opened: TextModel,
    defaults: Defaults,
    progress: ConsoleProgress,
) -> Defaults:
    """What holds for a model: in a chat what it suggests, where the user sets nothing else."""
    if not chat.chat:
        return defaults
    from pipelines.common.requests.suggested import as_suggested
    from pipelines.common.text_generation import chat_settings

    asked = {field.name for field in fields(SamplingOptions) if not _is_default(ctx, field.name)}
    return as_suggested(defaults, chat_settings(opened).sampling, asked, progress.notice)


def _is_default(ctx: typer.Context, option: str) -> bool:
    """Whether an option was left out."""
    source = ctx.get_parameter_source(option)
    return source is not None and source.name == "DEFAULT"


def _is_typed() -> bool:
    """Whether stdin is a terminal."""
    return sys.stdin is not None and sys.stdin.isatty()
