"""The command of a text-generation pipeline: its options, which all of them share."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Annotated

import typer
from typer.main import get_command

from pipelines.common.cli.command import Command
from pipelines.common.cli.console import ConsoleProgress
from pipelines.common.cli.context import registry_of
from pipelines.common.cli.offline import told_to_store
from pipelines.common.cli.options import (
    CustomOpsPath,
    DeviceId,
    MaxLength,
    ModelPath,
    NoNativeOps,
    Offline,
    QuantizationEncoding,
    Quiet,
    TargetName,
    Threads,
    TokenizerPath,
    Verbose,
    model_options,
    path_of,
)
from pipelines.common.cli.prompt import DEFAULT_PROMPT, read_prompts
from pipelines.common.errors import UsageError
from pipelines.common.registry.hookspecs import PipelineRecord


def command(record: PipelineRecord) -> Command:
    """The sub-command of a pipeline."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command(record.name, help=record.summary, cls=Command)(_generate)
    made = get_command(app)
    assert isinstance(made, Command)
    return made


def _generate(
    ctx: typer.Context,
    prompt: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TEXT",
            help="What to continue; '-' reads stdin, as does a pipe when no prompt is given;"
            " repeatable, several are a batch.",
            show_default=DEFAULT_PROMPT,
        ),
    ] = None,
    prompt_file: Annotated[
        Path | None,
        typer.Option(
            parser=path_of("--prompt-file"), metavar="FILE", help="Read the prompt from a file."
        ),
    ] = None,
    prompts_file: Annotated[
        Path | None,
        typer.Option(
            parser=path_of("--prompts-file"),
            metavar="FILE",
            help="A batch of prompts: JSON Lines, or text with one a line; '-' reads stdin.",
        ),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=1024,
            help="Sequences computed side by side, 8 in a batch; one prompt is continued so often.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            parser=path_of("--output"),
            metavar="FILE",
            help="Where a batch's records go, JSON Lines; '-' is stdout, the default.",
        ),
    ] = None,
    ordered: Annotated[
        bool, typer.Option("--ordered", help="Records in the order of the prompts.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Finish an --output that an earlier run has begun.")
    ] = False,
    no_special_tokens: Annotated[
        bool, typer.Option("--no-special-tokens", help="Take control tokens in the prompt as text.")
    ] = False,
    model_path: ModelPath = None,
    tokenizer_path: TokenizerPath = None,
    quantization_encoding: QuantizationEncoding = "q4_0",
    target: TargetName = "auto",
    device_id: DeviceId = 0,
    threads: Threads = None,
    custom_ops_path: CustomOpsPath = None,
    no_native_ops: NoNativeOps = False,
    offline: Offline = False,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Most tokens of output.")] = 256,
    max_length: MaxLength = None,
    temperature: Annotated[
        float, typer.Option(help="Divides the logits; 0 takes the most likely token.")
    ] = 0.0,
    top_k: Annotated[int, typer.Option(help="Sample from the k most likely; 0 or -1 is off.")] = 0,
    top_p: Annotated[
        float, typer.Option(help="Sample from the fewest tokens of this joint probability.")
    ] = 1.0,
    min_p: Annotated[
        float, typer.Option(help="Sample from tokens this likely, relative to the likeliest.")
    ] = 0.0,
    repetition_penalty: Annotated[
        float, typer.Option(help="Above 1 makes tokens less likely that occurred before.")
    ] = 1.0,
    seed: Annotated[
        int | None, typer.Option(help="Same seed, same text; random by default, and for -1.")
    ] = None,
    stop: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT", help="End before this text and do not print it; repeatable."),
    ] = None,
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
    from pipelines.common.engine.sampling import RANDOM_SEED, SamplingParams
    from pipelines.common.export.manifest import target_for
    from pipelines.common.registry.target_choice import choose
    from pipelines.common.requests.text import Defaults, TextRequest

    texts = read_prompts(prompt or (), prompt_file, prompts_file)
    seed = None if seed == RANDOM_SEED else seed
    sampling = SamplingParams(
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        seed=secrets.randbits(32) if seed is None else seed,
    )
    registry = registry_of(ctx)
    progress = ConsoleProgress(quiet=quiet, verbose=verbose)
    options = model_options(
        model_path=model_path,
        tokenizer_path=tokenizer_path,
        encoding=quantization_encoding,
        target=choose(
            registry, target_for(model_path, target, registry.targets), device_id, progress
        ),
        device=device_id,
        threads=threads,
        custom_ops=custom_ops_path,
        no_native_ops=no_native_ops,
        offline=offline,
    )
    assert ctx.info_name is not None
    pipeline = registry.load_pipeline(ctx.info_name)
    if len(texts) == 1 and (batch_size or 1) == 1 and not (output or ordered or resume):
        asked = Generation(
            TextRequest(texts[0], sampling, max_new_tokens, tuple(stop or ())),
            special_tokens=not no_special_tokens,
            max_length=max_length,
            num_warmups=num_warmups,
        )
        with told_to_store(ctx.info_name, options):
            model = pipeline.open(options, registry, progress)
            sequence = run(model, asked, progress, as_json=as_json, figures=not quiet)
        if sequence.finish_reason == "interrupted":
            raise typer.Exit(130)
        return

    from pipelines.common.cli.batch import BatchRequest, run_batch

    if num_warmups:
        raise UsageError("--num-warmups is for a single prompt; leave it out of a batch")
    batch = BatchRequest(
        pipeline=ctx.info_name,
        texts=texts * batch_size if len(texts) == 1 and batch_size else texts,
        prompts_file=prompts_file,
        batch_size=batch_size,
        output=output,
        ordered=ordered,
        resume=resume,
        defaults=Defaults(sampling, max_new_tokens, tuple(stop or ())),
        seed=seed,
        special_tokens=not no_special_tokens,
        max_length=max_length,
        as_json=as_json,
    )
    with told_to_store(ctx.info_name, options):
        run_batch(lambda: pipeline.open(options, registry, progress), batch, progress)
