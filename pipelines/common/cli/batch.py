"""A batch run, from its input to the figures."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import typer

import pipelines
from pipelines.common.batch import prompts as sources
from pipelines.common.batch.figures import Figures
from pipelines.common.batch.forms.generate import PROMPTS
from pipelines.common.batch.manifest import read_manifest
from pipelines.common.batch.output import Output, OutputFile, OutputStream
from pipelines.common.batch.prompts import Prompts
from pipelines.common.batch.run import BatchRun
from pipelines.common.cache import digest
from pipelines.common.cli.batch_display import TextDisplay, rows_display
from pipelines.common.cli.console import ConsoleProgress, say
from pipelines.common.cli.generate_options import BatchOptions
from pipelines.common.cli.report import figures_of_batch, print_figures
from pipelines.common.cli.run import length_in_context
from pipelines.common.cli.signals import INTERRUPTED, noted
from pipelines.common.cli.streams import (
    binary_stdout,
    is_stdout,
    on_terminal,
    print_json,
    stdout_is_closed,
)
from pipelines.common.engine.metrics import StartUp, memory_as_json
from pipelines.common.engine.stops import StopMatcher
from pipelines.common.errors import BatchError, ParameterError, UsageError
from pipelines.common.requests.prompts import PromptReader
from pipelines.common.requests.text import Defaults, TextRequest
from pipelines.common.requests.values import shown
from pipelines.common.system import peak_memory
from pipelines.common.text_generation import TextModel

DEFAULT_SLOTS = 8

_STREAM = Path("-")


@dataclass(frozen=True)
class BatchRequest:
    """What to run.

    Attributes:
        pipeline: Name of the pipeline.
        texts: Prompts of the command line; empty if there is a file of them.
        prompts_file: Where the prompts are; ``-`` is stdin.
        options: Sequences side by side, and where the records go.
        defaults: What holds for rows that say nothing else.
        defaults_of: What holds for rows of a model, made of what does for those of any.
        seed: The seed that was asked for, if one was.
        reader: Makes what makes tokens of prompts, for a model.
        max_length: Most tokens of a prompt and its output; None for the model's context.
        as_json: Whether the figures go to stdout, as one JSON record.

    Raises:
        UsageError: Options that do not go together.
    """

    pipeline: str
    texts: tuple[str, ...]
    prompts_file: Path | None
    options: BatchOptions
    defaults: Defaults
    defaults_of: Callable[[TextModel, Defaults], Defaults]
    seed: int | None
    reader: Callable[[TextModel], PromptReader]
    max_length: int | None
    as_json: bool

    def __post_init__(self) -> None:
        StopMatcher(self.defaults.stops)  # which refuses empty ones
        if self.file is None and (self.options.resume or self.as_json):
            option = "--resume" if self.options.resume else "--json"
            raise UsageError(
                f"{option} needs --output FILE: the records of this batch go to stdout"
            )

    @property
    def file(self) -> Path | None:
        """The output, if it is a file."""
        output = self.options.output
        return None if output is None or is_stdout(output) else output


def run_batch(
    open_model: Callable[[], TextModel], request: BatchRequest, progress: ConsoleProgress
) -> None:
    """Runs all rows that have no record yet; each one's record is written when it is complete.

    Ctrl-C ends the run before the next token or part of a prompt, and rows that are not complete
    are left to a later run; a second one ends the program at once.

    Args:
        open_model: Called when the input has turned out to be one.
        request: What to run.
        progress: Told of everything that takes time.

    Raises:
        UsageError: A length is beyond the model's context, or stdout is closed and wanted.
        BatchError: The input cannot be read, or the output cannot be written or gone on with.
        MemoryLimitError: So many sequences do not fit.
        OutputError: The figures cannot be written to stdout.
        typer.Exit: Rows have failed (1), or the run was interrupted (130).
    """
    if request.as_json and stdout_is_closed():
        raise UsageError("the figures are to go to stdout, which is closed; leave out --json")
    request = _with_seed_of_manifest(request)
    with progress.shown("Reading the prompts"):
        prompts = _prompts(request)
    model = open_model()
    prompts.defaults = request.defaults_of(model, request.defaults)
    request = replace(request, defaults=prompts.defaults)
    reader = request.reader(model)
    max_length = length_in_context(request.max_length, model.context_length)
    with prompts, closing(_output(model, reader, request, prompts)) as output:
        _notice_oddities(request, prompts, progress)
        batch = BatchRun(
            prompts,
            reader,
            max_length=max_length,
            done=output.done,
            failed=output.failed,
        )
        with progress.shown("Measuring the prompts"):
            count, longest = batch.demand()
        slots = min(request.options.batch_size or DEFAULT_SLOTS, count)
        runner = model.start(slots=slots, max_length=longest) if slots else None
        if runner is not None and slots > 1 and not runner.batch_invariant:
            progress.notice(
                "a row's text may depend on the rows beside it: sums of this target's operators"
                " depend on how many are computed together"
            )
        display = rows_display(
            batch.figures,
            visible=not progress.quiet,
            # A moving line would be torn by records on the same terminal.
            alone=request.file is not None or not on_terminal(),
        )
        with noted() as interrupted, display as show:
            for figures in batch.run(runner, output, ordered=request.options.ordered):
                show(figures)
                if interrupted():
                    break
    start_up, memory = StartUp.of(progress), peak_memory()
    if not progress.quiet:
        print_figures(figures_of_batch(batch.figures, slots, start_up, memory))
    if request.as_json:
        record = {
            **batch.figures.as_json(),
            "batch_size": slots,
            "timings": start_up.as_json(),
            **memory_as_json(memory),
            **model.describe(),
        }
        print_json(record, indented=False)
    conclude(batch.figures, interrupted=interrupted(), resumable=request.file is not None)


def _with_seed_of_manifest(request: BatchRequest) -> BatchRequest:
    """The request with the seed of the run that it goes on with, unless it asks for one."""
    if not request.options.resume or request.seed is not None or request.file is None:
        return request
    seed: Any = (read_manifest(request.file) or {}).get("seed")
    try:
        sampling = replace(request.defaults.sampling, seed=seed)
    except ParameterError:  # there is none, or another; what differs is told later
        return request
    return replace(request, defaults=replace(request.defaults, sampling=sampling))


def _prompts(request: BatchRequest) -> Prompts[Defaults, TextRequest]:
    if request.prompts_file is None:
        return sources.from_texts(request.texts, request.defaults, PROMPTS)
    if request.prompts_file == _STREAM:
        return sources.from_stdin(request.defaults, PROMPTS)
    return sources.from_file(request.prompts_file, request.defaults, PROMPTS)


def _output(
    model: TextModel,
    reader: PromptReader,
    request: BatchRequest,
    prompts: Prompts[Defaults, TextRequest],
) -> Output:
    if request.file is not None:
        settings = _settings(model, reader, request, prompts)
        if request.options.resume:
            return OutputFile.resume(request.file, settings, prompts.form, prompts.lines())
        return OutputFile.create(request.file, settings)
    if stdout_is_closed():
        raise BatchError("the records are to go to stdout, which is closed; add --output FILE")
    if request.options.output is None and request.prompts_file is None and on_terminal():
        if request.defaults.logprobs is not None:
            raise UsageError("--logprobs is told in records; add --output FILE, or - for stdout")
        return TextDisplay()
    return OutputStream(binary_stdout())


def _settings(
    model: TextModel,
    reader: PromptReader,
    request: BatchRequest,
    prompts: Prompts[Defaults, TextRequest],
) -> dict[str, Any]:
    """What the results depend on; a run with other values is another run."""
    told = model.describe()
    names = ("model_fingerprint", "quantization_encoding", "target", "op_packages")
    return {
        "version": pipelines.__version__,
        "input": prompts.fingerprint,
        "form": prompts.form.name,
        "rows": prompts.rows,
        "pipeline": request.pipeline,
        "model": Path(str(told.get("model"))).name,  # it may have moved
        **{name: told.get(name) for name in names},
        "tokenizer": digest(*model.tokenizer.vocabulary.files().values()),
        "special_tokens": reader.special_tokens,
        "chat": reader.asks,
        "system_prompt": reader.system,
        "chat_template": _template(reader),
        **request.defaults.sampling.as_json(),
        "max_new_tokens": request.defaults.max_new_tokens,
        "stop": list(request.defaults.stops),
        "logprobs": request.defaults.logprobs,
        "max_length": request.max_length,
        "ordered": request.options.ordered,
    }


def _template(reader: PromptReader) -> str | None:
    """A digest of the template that makes prompts of messages, if there is one."""
    text = reader.settings.template if reader.template is None else reader.chat.template.text
    return None if text is None else digest(text)


def _notice_oddities(
    request: BatchRequest, prompts: Prompts[Defaults, TextRequest], progress: ConsoleProgress
) -> None:
    """Says what the user may not have meant."""
    notice_unknown(prompts, progress)
    if len(request.texts) > len(set(request.texts)) and not request.defaults.sampling.temperature:
        progress.notice("equal prompts give equal texts: --temperature is 0")


def notice_unknown(prompts: Prompts[Any, Any], progress: ConsoleProgress) -> None:
    """Names the fields that have no effect."""
    if prompts.unknown:
        names = ", ".join(map(shown, prompts.unknown))
        progress.notice(f"{prompts.source}: fields that are not known have no effect: {names}")


def conclude(figures: Figures, *, interrupted: bool, resumable: bool) -> None:
    """Ends the program, if there is more to say than that all went well.

    Args:
        figures: How far the run has come.
        interrupted: Whether it was stopped.
        resumable: Whether another run can go on with what it has written.

    Raises:
        typer.Exit: Rows have failed (1), or the run was interrupted (130).
    """
    if interrupted and figures.done < figures.rows:
        how = "; run the same command with --resume for the others" if resumable else ""
        say(f"interrupted: {figures.done:,} of {figures.rows:,} rows are done{how}")
        raise typer.Exit(INTERRUPTED)
    if figures.failed:
        reason = f": {figures.first_error}" if figures.first_error else ""
        say(f"{figures.failed:,} of {figures.rows:,} rows failed, see their records{reason}")
        raise typer.Exit(1)
