"""Vectors of texts: the command of pipelines that encode them."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from pipelines.common.cli.command import Command, pipeline_command
from pipelines.common.cli.console import ConsoleProgress
from pipelines.common.cli.context import registry_of
from pipelines.common.cli.grouping import Without, grouped_options
from pipelines.common.cli.models import with_model
from pipelines.common.cli.options import AsJson, ModelChoice, Quiet, Verbose, path_of
from pipelines.common.cli.streams import print_json, print_lines
from pipelines.common.errors import PromptError, UsageError
from pipelines.common.registry.hookspecs import PipelineRecord

if TYPE_CHECKING:
    from pipelines.common.embedding.texts import BadText, Text
    from pipelines.common.models.encoder import EncoderModel

_STREAM = Path("-")

_TOGETHER = 256
"""Texts that are read and encoded at a time."""


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
            help="Texts: JSON Lines with a field 'text', or one a line; '-' reads stdin.",
        ),
    ] = None
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
        Without("tokenizer_path", "random_weights", "random_config", "quantization_encoding"),
    ],
    quantization_encoding: Annotated[
        Literal["q4_0", "q8_0", "float32", "auto"],
        typer.Option(help="What the big matrices run in; auto is as they are stored."),
    ] = "auto",
    as_json: AsJson = False,
) -> None:
    from pipelines.common.models.encoder import Embeddings
    from pipelines.common.registry.target_choice import choose

    assert ctx.info_name is not None
    if texts.search is not None and not texts.normalize:
        raise UsageError("--search compares directions; leave out --no-normalize")
    asked = _asked(texts.text or (), texts.texts_file)
    registry = registry_of(ctx)
    progress = ConsoleProgress(quiet=texts.quiet, verbose=texts.verbose)
    chosen = replace(
        with_model(model, registry, progress), quantization_encoding=quantization_encoding
    )
    options = chosen.options(choose(registry, model.target, model.device_id, progress))
    opened: EncoderModel = registry.load_pipeline(ctx.info_name).open(options, registry, progress)
    embeddings = Embeddings(opened.start(), texts.pooling or opened.pooling, texts.normalize)
    work = _Work(opened, embeddings, truncate=texts.truncate)
    if texts.search is None:
        failed = _print_vectors(work, asked)
    else:
        failed = _print_alike(work, asked, texts.search, texts.top_k, as_json=as_json)
    if failed:
        raise typer.Exit(1)


def _asked(texts: Sequence[str], file: Path | None) -> Iterator[Text | BadText]:
    """The texts from their one source.

    Raises:
        UsageError: There are two sources, or none.
        PromptError: A text is empty, or stdin is closed.
    """
    from pipelines.common.embedding.texts import Text, of_file, of_stream

    if texts and file is not None:
        raise UsageError("--text and --texts-file are both given; choose one")
    if texts:
        if not all(texts):
            raise PromptError("a text is empty; give it as --text TEXT")
        return (Text(number, None, text) for number, text in enumerate(texts, 1))
    if file is None:
        raise UsageError("there is no text; give it as --text TEXT or --texts-file FILE")
    if file != _STREAM:
        return of_file(file)
    if sys.stdin is None:
        raise PromptError("texts are to come from stdin, which is closed")
    return of_stream(sys.stdin.buffer)


@dataclass(frozen=True)
class _Work:
    """What makes vectors of texts.

    Attributes:
        model: Has the tokenizer.
        embeddings: Has the encoder.
        truncate: Whether texts that are too long are cut.
    """

    model: EncoderModel
    embeddings: Any
    truncate: bool

    def vectors(self, texts: Iterator[Text | BadText]) -> Iterator[tuple[Any, Any, int]]:
        """Each text with its vector and its number of tokens, a batch of them at a time."""
        from pipelines.common.embedding.texts import BadText, in_batches

        for batch in in_batches(texts, _TOGETHER):
            ids = [None if isinstance(text, BadText) else self._ids(text) for text in batch]
            good = [each for each in ids if isinstance(each, list)]
            made = iter(self.embeddings.of(good) if good else ())
            for text, tokens in zip(batch, ids, strict=True):
                if isinstance(tokens, list):
                    yield text, next(made), len(tokens)
                else:
                    yield tokens or text, None, 0

    def _ids(self, text: Text) -> list[int] | BadText:
        from pipelines.common.embedding.texts import BadText

        longest = self.embeddings.encoder.context_length
        try:
            ids = self.model.tokenizer.encode(text.text)
        except PromptError as error:
            return BadText(text.line, text.id, str(error))
        if len(ids) <= longest or self.truncate:
            return self.model.tokenizer.shortened(ids, longest)
        return BadText(
            text.line,
            text.id,
            f"the text has {len(ids)} tokens, and the model takes {longest}; shorten it, or cut it"
            " with --truncate",
        )


def _print_vectors(work: _Work, texts: Iterator[Text | BadText]) -> int:
    """Prints a record for each text; how many of them could not be encoded."""
    from pipelines.common.embedding.texts import BadText

    failed = 0
    for text, vector, tokens in work.vectors(texts):
        bad = isinstance(text, BadText)
        failed += bad
        record = {
            "id": text.id,
            "line": text.line,
            "tokens": None if bad else tokens,
            "embedding": None if bad else [float(element) for element in vector],
            "error": text.error if bad else None,
        }
        print_json(record, indented=False)
    return failed


def _print_alike(
    work: _Work, texts: Iterator[Text | BadText], file: Path, count: int, *, as_json: bool
) -> int:
    """Prints what a file has that is most like each text; how many could not be encoded."""
    import numpy as np

    from pipelines.common.embedding.texts import BadText, of_file

    found = [*work.vectors(of_file(file))]
    failed = [text for text, _, _ in found if isinstance(text, BadText)]
    there = [(text, vector) for text, vector, _ in found if not isinstance(text, BadText)]
    if not there:
        raise PromptError(f"{file} has no text that can be encoded; nothing can be found in it")
    matrix = np.stack([vector for _, vector in there])
    for text, vector, _ in work.vectors(texts):
        if isinstance(text, BadText):
            failed.append(text)
            continue
        scores = matrix @ vector
        best = np.argsort(-scores, kind="stable")[:count]
        alike = [(float(scores[place]), there[place][0]) for place in best]
        if as_json:
            rows = [{"score": s, "id": t.id, "line": t.line, "text": t.text} for s, t in alike]
            print_json({"id": text.id, "line": text.line, "found": rows}, indented=False)
        else:
            print_lines(*(f"{score:.4f}  {each.text}" for score, each in alike))
    for bad in failed:
        work.model.progress.notice(f"line {bad.line}: {bad.error}")
    return len(failed)
