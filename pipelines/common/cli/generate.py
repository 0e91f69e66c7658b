"""The command of a text-generation pipeline, which all of them share."""

from __future__ import annotations

from typing import Annotated

import typer
from typer.main import get_command

from pipelines.common.cli.command import Command
from pipelines.common.cli.console import ConsoleProgress
from pipelines.common.cli.context import registry_of
from pipelines.common.cli.generate_options import BatchOptions, PromptOptions, TextOptions
from pipelines.common.cli.grouping import grouped_options
from pipelines.common.cli.offline import told_to_store
from pipelines.common.cli.options import ModelChoice, Quiet, Verbose
from pipelines.common.errors import UsageError
from pipelines.common.registry.hookspecs import PipelineRecord


def command(record: PipelineRecord) -> Command:
    """The sub-command of a pipeline."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command(record.name, help=record.summary, cls=Command)(_generate)
    made = get_command(app)
    assert isinstance(made, Command)
    return made


@grouped_options
def _generate(
    ctx: typer.Context,
    prompts: PromptOptions,
    batch: BatchOptions,
    *,
    no_special_tokens: Annotated[
        bool, typer.Option("--no-special-tokens", help="Take control tokens in the prompt as text.")
    ] = False,
    model: ModelChoice,
    text: TextOptions,
    num_warmups: Annotated[
        int, typer.Option(min=0, help="Runs of the prompt and one step before the timed one.")
    ] = 0,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON record instead of the text.")
    ] = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    # NumPy and the tokenizers are imported here, out of the way of --help and list.
    from pipelines.common.cli.run import Generation, run
    from pipelines.common.export.manifest import target_for
    from pipelines.common.registry.target_choice import choose

    texts = prompts.read()
    defaults = text.defaults()
    registry = registry_of(ctx)
    progress = ConsoleProgress(quiet=quiet, verbose=verbose)
    target = target_for(model.model_path, model.target, registry.targets)
    options = model.options(choose(registry, target, model.device_id, progress))
    assert ctx.info_name is not None
    pipeline = registry.load_pipeline(ctx.info_name)
    if len(texts) == 1 and not batch.asked_for:
        asked = Generation(
            defaults.request(texts[0]),
            special_tokens=not no_special_tokens,
            max_length=text.max_length,
            num_warmups=num_warmups,
        )
        with told_to_store(ctx.info_name, options):
            opened = pipeline.open(options, registry, progress)
            sequence = run(opened, asked, progress, as_json=as_json, figures=not quiet)
        if sequence.finish_reason == "interrupted":
            raise typer.Exit(130)
        return

    from pipelines.common.cli.batch import BatchRequest, run_batch

    if num_warmups:
        raise UsageError("--num-warmups is for a single prompt; leave it out of a batch")
    request = BatchRequest(
        pipeline=ctx.info_name,
        texts=texts * (batch.batch_size or 1) if len(texts) == 1 else texts,
        prompts_file=prompts.prompts_file,
        options=batch,
        defaults=defaults,
        seed=text.asked_seed,
        special_tokens=not no_special_tokens,
        max_length=text.max_length,
        as_json=as_json,
    )
    with told_to_store(ctx.info_name, options):
        run_batch(lambda: pipeline.open(options, registry, progress), request, progress)
