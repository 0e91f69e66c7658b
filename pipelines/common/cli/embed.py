"""Vectors of texts: the command of pipelines that encode them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import typer

import pipelines
from pipelines.common.cli.command import Command, pipeline_command
from pipelines.common.cli.console import ConsoleProgress
from pipelines.common.cli.context import registry_of
from pipelines.common.cli.grouping import Without, grouped_options
from pipelines.common.cli.offline import told_to_store
from pipelines.common.cli.options import AsJson, ModelChoice, Quiet, Verbose, path_of
from pipelines.common.cli.prompt import at_most_one
from pipelines.common.cli.signals import noted
from pipelines.common.cli.streams import (
    binary_stdout,
    is_stdout,
    on_terminal,
    print_json,
    print_lines,
)
from pipelines.common.errors import PromptError, UsageError
from pipelines.common.registry.hookspecs import PipelineRecord

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipelines.common.batch.output import Output
    from pipelines.common.batch.prompts import Prompts
    from pipelines.common.batch.row import BadRow, RowId
    from pipelines.common.models.encoder import Embeddings, EncoderModel
    from pipelines.common.requests.embeddings import EmbeddingRequest

    Texts: TypeAlias = Prompts[None, EmbeddingRequest]

_STREAM = Path("-")


@dataclass(frozen=True)
class TextsOptions:
    """Where the texts are, and what is made of them."""

    text: Annotated[list[str] | None, typer.Option(metavar="TEXT", help="A text; repeatable.")] = (
        None
    )
    texts_file: Annotated[
        Path | None,
        typer.Option(
            parser=path_of("--texts-file"),
            metavar="FILE",
            help="A batch of texts: JSON Lines, or text with one a line; '-' reads stdin.",
        ),
    ] = None
    output: Annotated[
        Path | None,
        typer.Option(
            parser=path_of("--output"),
            metavar="FILE",
            help="Where the records go, JSON Lines; '-' is stdout, the default.",
        ),
    ] = None
    resume: Annotated[
        bool, typer.Option("--resume", help="Finish an --output that an earlier run has begun.")
    ] = False
    search: Annotated[
        Path | None,
        typer.Option(
            parser=path_of("--search"),
            metavar="FILE",
            help="Find the texts of this file that are most like the others, by cosine.",
        ),
    ] = None
    top_k: Annotated[int, typer.Option(min=1, help="How many of them.")] = 5
    pooling: Annotated[
        Literal["mean", "cls", "last"] | None,
        typer.Option(
            help="What makes one vector of those of the tokens; by default what the model is for.",
            show_default=False,
        ),
    ] = None
    normalize: Annotated[bool, typer.Option(help="Whether vectors are brought to length one.")] = (
        True
    )
    truncate: Annotated[
        bool, typer.Option("--truncate", help="Cut texts that are longer than the model takes.")
    ] = False
    quiet: Quiet = False
    verbose: Verbose = False


def command(record: PipelineRecord) -> Command:
    """The sub-command of a pipeline."""
    return pipeline_command(record, _embed)


@grouped_options
def _embed(
    ctx: typer.Context,
    texts: TextsOptions,
    model: Annotated[
        ModelChoice,
        Without("tokenizer_path"),
    ],
    as_json: AsJson = False,
) -> None:
    from pipelines.common.cli.batch import notice_unknown
    from pipelines.common.models.encoder import Embeddings
    from pipelines.common.registry.opening import prepared

    name = ctx.info_name
    assert name is not None
    file = None if texts.output is None or is_stdout(texts.output) else texts.output
    _check(texts, file)
    registry = registry_of(ctx)
    progress = ConsoleProgress(quiet=texts.quiet, verbose=texts.verbose)
    pipeline, options = prepared(name, model.options(), registry, progress)
    with _read(texts.text or (), texts.texts_file) as asked:
        notice_unknown(asked, progress)
        with told_to_store(name, options):
            opened: EncoderModel = pipeline.open(options, registry, progress)
            encoder = opened.start()
        embeddings = Embeddings(encoder, texts.pooling or opened.pooling, texts.normalize)
        work = _Work(opened, embeddings, truncate=texts.truncate)
        if texts.search is None:
            _write_vectors(work, asked, file, resume=texts.resume, progress=progress)
        elif _print_alike(work, asked, texts.search, texts.top_k, as_json=as_json):
            raise typer.Exit(1)


def _check(texts: TextsOptions, file: Path | None) -> None:
    """Makes sure that options go together.

    Args:
        texts: The options.
        file: The output, if it is a file.

    Raises:
        UsageError: They do not.
    """
    if texts.search is not None and not texts.normalize:
        raise UsageError("--search compares directions; leave out --no-normalize")
    if texts.search is not None and (texts.output is not None or texts.resume):
        raise UsageError("--search prints what it finds; leave out --output and --resume")
    if texts.resume and file is None:
        raise UsageError("--resume needs --output FILE: the records go to stdout")


def _read(texts: Sequence[str], file: Path | None) -> Texts:
    """The rows from their one source.

    Raises:
        UsageError: There are two sources, or none.
        PromptError: A text is empty.
        BatchError: They cannot be read.
    """
    from pipelines.common.batch.forms.embed import TEXTS
    from pipelines.common.batch.prompts import from_file, from_stdin, from_texts

    at_most_one({"--text": bool(texts), "--texts-file": file is not None})
    if texts:
        if not all(texts):
            raise PromptError("a text is empty; give it as --text TEXT")
        return from_texts(texts, None, TEXTS)
    if file is None:
        raise UsageError("there is no text; give it as --text TEXT or --texts-file FILE")
    return from_stdin(None, TEXTS) if file == _STREAM else from_file(file, None, TEXTS)


@dataclass(frozen=True)
class _Work:
    """What makes vectors of texts.

    Attributes:
        model: Has the tokenizer.
        embeddings: Has the encoder.
        truncate: Whether texts that are too long are cut.
    """

    model: EncoderModel
    embeddings: Embeddings
    truncate: bool

    def ids(self, text: str) -> list[int]:
        """The token ids of a text.

        Raises:
            PromptError: It is no text, or too long.
        """
        longest = self.model.context_length
        ids = self.model.tokenizer.encode(text)
        if len(ids) > longest and not self.truncate:
            raise PromptError(
                f"the text has {len(ids)} tokens, and the model takes {longest}; shorten it, or cut"
                " it with --truncate"
            )
        return self.model.tokenizer.shortened(ids, longest)

    def settings(self, texts: Texts) -> dict[str, Any]:
        """What the vectors depend on; a run with other values is another run."""
        told = self.model.describe()
        names = ("pipeline", "model_fingerprint", "quantization_encoding", "target", "op_packages")
        return {
            "version": pipelines.__version__,
            "input": texts.fingerprint,
            "form": texts.form.name,
            "rows": texts.rows,
            "model": Path(str(told["model"])).name,  # it may have moved
            **{name: told[name] for name in names},
            "pooling": self.embeddings.pooling,
            "normalize": self.embeddings.normalize,
            "truncate": self.truncate,
        }


def _write_vectors(
    work: _Work, texts: Texts, file: Path | None, *, resume: bool, progress: ConsoleProgress
) -> None:
    """Writes a record for each row.

    Raises:
        BatchError: The records cannot be written.
        typer.Exit: Rows have failed (1), or the run was interrupted (130).
    """
    from pipelines.common.batch.embeddings import run_embeddings
    from pipelines.common.batch.figures import Figures
    from pipelines.common.cli.batch import conclude
    from pipelines.common.cli.batch_display import rows_display

    with closing(_output(work, texts, file, resume=resume)) as output:
        figures = Figures(texts.rows, len(output.done), output.failed)
        # A moving line would be torn by records on the same terminal.
        alone = file is not None or not on_terminal()
        display = rows_display(figures, visible=not progress.quiet, alone=alone)
        with noted() as interrupted, display as show:
            run = run_embeddings(texts, texts.form, output, figures, work.ids, work.embeddings.of)
            for now in run:
                show(now)
                if interrupted():
                    break
    conclude(figures, interrupted=interrupted(), resumable=file is not None)


def _output(work: _Work, texts: Texts, file: Path | None, *, resume: bool) -> Output:
    from pipelines.common.batch.output import OutputFile, OutputStream

    if file is None:
        return OutputStream(binary_stdout())
    if resume:
        return OutputFile.resume(file, work.settings(texts), texts.form, texts.lines())
    return OutputFile.create(file, work.settings(texts))


def _print_alike(work: _Work, texts: Texts, file: Path, count: int, *, as_json: bool) -> int:
    """Prints what a file has that is most like each text; how many could not be encoded."""
    import numpy as np

    with _read((), file) as searched:
        there, failed = _vectors(work, searched)
    if not there:
        raise PromptError(f"{file} has no text that can be encoded; nothing can be found in it")
    matrix = np.stack([found.vector for found in there])
    asked, more = _vectors(work, texts)
    for query in asked:
        scores = matrix @ query.vector
        best = np.argsort(-scores, kind="stable")[:count]
        alike = [(float(scores[place]), there[place]) for place in best]
        if as_json:
            rows = [{"score": s, "id": t.id, "line": t.line, "text": t.text} for s, t in alike]
            print_json({"id": query.id, "line": query.line, "found": rows}, indented=False)
        else:
            print_lines(*(f"{score:.4f}  {each.text}" for score, each in alike))
    for bad in (*failed, *more):
        work.model.progress.notice(f"line {bad.line}: {bad.error}")
    return len(failed) + len(more)


@dataclass(frozen=True)
class _Found:
    """A text with its vector.

    Attributes:
        id: What its row calls it.
        line: Where that is in the input.
        text: The text.
        vector: Its vector.
    """

    id: RowId
    line: int
    text: str
    vector: NDArray[np.float32]


def _vectors(work: _Work, texts: Texts) -> tuple[list[_Found], list[BadRow]]:
    """All texts of an input with their vectors, and the rows that have none."""
    from pipelines.common.batch.embeddings import embedded
    from pipelines.common.batch.row import BadRow

    found: list[_Found] = []
    failed: list[BadRow] = []
    for made in embedded(texts, work.ids, work.embeddings.of):
        if isinstance(made, BadRow):
            failed.append(made)
            continue
        row, result = made
        found += [
            _Found(row.id, row.line, text, vector)
            for text, vector in zip(row.request.texts, result.vectors, strict=True)
        ]
    return found, failed
