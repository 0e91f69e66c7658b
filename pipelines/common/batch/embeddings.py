"""Takes rows of texts through an encoder."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pipelines.common.batch.figures import Figures
from pipelines.common.batch.form import Form
from pipelines.common.batch.output import Output
from pipelines.common.batch.row import BadRow, Row
from pipelines.common.errors import PromptError
from pipelines.common.requests.embeddings import Embedding, EmbeddingRequest

Ids: TypeAlias = Callable[[str], Sequence[int]]
"""The token ids of a text; raises `PromptError` for one that has none that can be encoded."""

Vectors: TypeAlias = Callable[[Sequence[Sequence[int]]], NDArray[np.float32]]
"""The vectors of texts, ``[texts, elements]``, of their ids."""

Embedded: TypeAlias = tuple[Row[EmbeddingRequest], Embedding]
"""A row with what came of it."""

_TOGETHER: Final = 256
"""Rows that are read and encoded at a time."""


def embedded(
    rows: Iterable[Row[EmbeddingRequest] | BadRow], ids: Ids, vectors: Vectors
) -> Iterator[Embedded | BadRow]:
    """What comes of rows, in their order; some hundred are computed at a time.

    Args:
        rows: The rows; those that cannot be run stay what they are.
        ids: Makes token ids of texts.
        vectors: Makes vectors of them.
    """
    left = iter(rows)
    while together := list(itertools.islice(left, _TOGETHER)):
        encoded = [_encoded(row, ids) for row in together]
        good = [tokens for _, texts in encoded for tokens in texts]
        made = vectors(good) if good else np.empty((0, 0), np.float32)
        used = 0
        for row, texts in encoded:
            if isinstance(row, BadRow):
                yield row
                continue
            part = made[used : used + len(texts)]
            used += len(texts)
            yield row, Embedding(part, sum(map(len, texts)))


def run_embeddings(
    rows: Iterable[Row[EmbeddingRequest] | BadRow],
    form: Form[Any, EmbeddingRequest, Embedding],
    output: Output,
    figures: Figures,
    ids: Ids,
    vectors: Vectors,
) -> Iterator[Figures]:
    """Writes a record for each row that has none yet.

    Args:
        rows: The rows of the whole input.
        form: Makes the records.
        output: What they are written to.
        figures: How far the run has come, which is kept up to date.
        ids: See `embedded`.
        vectors: Likewise.

    Yields:
        The figures, after each record.

    Raises:
        BatchError: The input cannot be read, or the output cannot be written.
    """
    start = time.perf_counter()
    for made in embedded((row for row in rows if row.line not in output.done), ids, vectors):
        if isinstance(made, BadRow):
            figures.first_error = figures.first_error or f"line {made.line}: {made.error}"
            figures.failed += 1
            output.write(form.failure(made))
        else:
            row, result = made
            figures.prompt_tokens += result.tokens
            output.write(form.record(row, result))
        figures.done += 1
        figures.seconds = time.perf_counter() - start
        yield figures


def _encoded(
    row: Row[EmbeddingRequest] | BadRow, ids: Ids
) -> tuple[Row[EmbeddingRequest] | BadRow, list[Sequence[int]]]:
    """A row with the token ids of its texts; a bad one has none."""
    if isinstance(row, BadRow):
        return row, []
    try:
        return row, [ids(text) for text in row.request.texts]
    except PromptError as error:
        return row.failed(str(error)), []
