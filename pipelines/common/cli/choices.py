"""``choices``: how often a model expects the right one of several endings."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipelines.common.cli.console import ConsoleProgress
from pipelines.common.cli.grouping import Without, grouped_options
from pipelines.common.cli.options import AsJson, ModelChoice, NamedModel, Quiet, Verbose, path_of
from pipelines.common.cli.prompt import read_file
from pipelines.common.cli.streams import print_json, print_lines
from pipelines.common.cli.text_models import text_model
from pipelines.common.errors import PromptError, TooLongError, UsageError

if TYPE_CHECKING:
    from pipelines.common.measure.choices import Accuracy, Question, TokenizedQuestion
    from pipelines.common.text_generation import TextModel


@grouped_options
def choices(
    ctx: typer.Context,
    path: NamedModel,
    file: Annotated[
        Path,
        typer.Argument(
            parser=path_of("FILE"),
            metavar="FILE",
            help="Questions, JSON Lines with ctx, endings and label; '-' reads stdin.",
        ),
    ],
    model: Annotated[ModelChoice, Without("model_path")],
    limit: Annotated[
        int | None, typer.Option(min=1, help="How many of them are asked; all by default.")
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Score a model by multiple choice: how often it expects the right ending of a text most.

    Figures are those of lm-evaluation-harness: acc by the probability of the whole ending, acc_norm
    by that a character, each with its standard error.
    """
    from pipelines.common.measure.choices import Accuracy
    from pipelines.common.requests.choices import read_questions

    progress = ConsoleProgress(quiet=quiet, verbose=verbose)
    text = read_file(file, "the questions")
    source = "stdin" if file == Path("-") else str(file)
    questions = [*islice(read_questions(text, source), limit)]
    with text_model(ctx, path, model, progress) as judged:
        with progress.shown("Reading the questions"):
            asked = [
                _tokenized(judged, question, f"{source}, line {line}")
                for line, question in questions
            ]
        runner = judged.start(slots=1, max_length=max(each.length for each in asked))
    accuracy = Accuracy()

    def so_far() -> str:
        return f"questions, acc_norm {accuracy.right_normalized.value:.4f}"

    for each in progress.told(asked, so_far):
        accuracy.ask(each, runner)
    record = _record(accuracy)
    if as_json:
        print_json({**record, **judged.describe()}, indented=False)
    else:
        print_lines(*_lines(record))


def _tokenized(judged: TextModel, question: Question, place: str) -> TokenizedQuestion:
    """A question in a model's tokens.

    Args:
        judged: The model.
        question: The question.
        place: Where it stands, for messages.

    Raises:
        PromptError: It cannot be put to the model.
    """
    from pipelines.common.measure.choices import tokenized

    try:
        asked = tokenized(question, judged.tokenizer)
    except UsageError as error:
        raise PromptError(f"{place}: {error}") from error
    if asked.length > judged.context_length:
        raise TooLongError(
            f"{place}: ctx and the longest of endings have {asked.length:,} tokens, but"
            f" the model's context is {judged.context_length:,}; leave the line out"
        )
    return asked


def _record(accuracy: Accuracy) -> dict[str, Any]:
    """All figures as JSON values."""
    return {
        "acc": accuracy.right.value,
        "acc_stderr": accuracy.right.error,
        "acc_norm": accuracy.right_normalized.value,
        "acc_norm_stderr": accuracy.right_normalized.error,
        "questions": accuracy.right.count,
    }


def _lines(record: dict[str, Any]) -> Iterator[str]:
    """The figures for people."""
    for name in ("acc", "acc_norm"):
        yield f"{name:<10} {record[name]:.4f} ± {record[f'{name}_stderr']:.4f}"
    yield f"questions  {record['questions']:,}"
