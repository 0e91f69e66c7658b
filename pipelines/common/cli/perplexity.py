"""``perplexity``: how well a model expects a text, and how near it comes to another one."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from pipelines.common.cli.console import ConsoleProgress
from pipelines.common.cli.grouping import Without, grouped_options
from pipelines.common.cli.options import AsJson, ModelChoice, NamedModel, Quiet, Verbose, path_of
from pipelines.common.cli.prompt import read_file
from pipelines.common.cli.streams import print_json, print_lines
from pipelines.common.cli.text_models import text_model
from pipelines.common.errors import UsageError

if TYPE_CHECKING:
    from pipelines.common.measure.perplexity import Scores

_WINDOW: Final = 512
"""Tokens of a window by default, as in llama.cpp."""


@grouped_options
def perplexity(
    ctx: typer.Context,
    path: NamedModel,
    file: Annotated[
        Path,
        typer.Argument(
            parser=path_of("FILE"), metavar="FILE", help="The text, in UTF-8; '-' reads stdin."
        ),
    ],
    model: Annotated[ModelChoice, Without("model_path")],
    compare: Annotated[
        Path | None,
        typer.Option(
            parser=path_of("--compare"),
            metavar="MODEL2",
            help="Tell how far MODEL is from this one, which runs as it is stored.",
        ),
    ] = None,
    context: Annotated[
        int | None,
        typer.Option(
            min=4,
            metavar="TOKENS",
            help="Size of the windows that the text is cut into; 512, or the model's context.",
            show_default=False,
        ),
    ] = None,
    chunks: Annotated[
        int | None, typer.Option(min=1, help="How many of them are scored; all by default.")
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Score a text: how well a model expects it, and how near that is to another model.

    Windows and what of them is scored are llama.cpp's: the second half of each, given the first.
    """
    from pipelines.common.measure.perplexity import Scores, windows

    progress = ConsoleProgress(quiet=quiet, verbose=verbose)
    text = read_file(file, "the text")
    with text_model(ctx, path, model, progress) as judged:
        size = _window(context, judged.context_length)
        tokens = judged.tokenizer.encode(text, special=False)
        parts = windows(tokens, size, judged.tokenizer)[:chunks]
        runner = judged.start(slots=1, max_length=size)
    other = None
    if compare is not None:
        as_stored = replace(model, quantization_encoding=None)
        with text_model(ctx, compare, as_stored, progress) as reference:
            if reference.tokenizer.encode(text, special=False) != tokens:
                raise UsageError(
                    f"{path} and {compare} have different tokens for the text; expected models"
                    " with one tokenizer"
                )
            _window(size, reference.context_length)
            other = reference.start(slots=1, max_length=size)
    scores = Scores()

    def so_far() -> str:
        return f"windows, perplexity {math.exp(scores.surprise.value):.4f}"

    for part in progress.told(parts, so_far):
        scores.read(part, runner, other)
    record = _record(scores, len(parts), size, compared=other is not None)
    if as_json:
        print_json({**record, **judged.describe()}, indented=False)
    else:
        print_lines(*_lines(record))


def _window(asked: int | None, context_length: int) -> int:
    """The size of windows: what was asked for, or what is usual and possible.

    Raises:
        UsageError: The model's context is shorter.
    """
    if asked is not None and asked > context_length:
        raise UsageError(
            f"windows have {asked} tokens, but the model's context is {context_length}; make"
            " --context smaller"
        )
    return min(_WINDOW, context_length) if asked is None else asked


def _record(scores: Scores, windows: int, size: int, *, compared: bool) -> dict[str, Any]:
    """All figures as JSON values."""
    from pipelines.common.measure.perplexity import perplexity

    value, error = perplexity(scores.surprise)
    record: dict[str, Any] = {
        "perplexity": value,
        "perplexity_error": error,
        "scored_tokens": scores.surprise.count,
        "windows": windows,
        "window_tokens": size,
    }
    if compared:
        record["reference"] = {
            "perplexity": perplexity(scores.reference_surprise)[0],
            "kl_divergence": scores.divergence.value,
            "kl_divergence_error": scores.divergence.error,
            "same_top": scores.agreed / scores.divergence.count,
        }
    return record


def _lines(record: dict[str, Any]) -> Iterator[str]:
    """The figures for people."""
    yield f"perplexity             {record['perplexity']:.4f} ± {record['perplexity_error']:.4f}"
    yield (
        f"scored                 {record['scored_tokens']:,} tokens, in {record['windows']:,}"
        f" windows of {record['window_tokens']:,}"
    )
    if reference := record.get("reference"):
        yield f"perplexity of MODEL2   {reference['perplexity']:.4f}"
        yield (
            f"KL divergence from it  {reference['kl_divergence']:.6f} ±"
            f" {reference['kl_divergence_error']:.6f} nats a token"
        )
        yield f"same likeliest token   {100 * reference['same_top']:.2f} %"
