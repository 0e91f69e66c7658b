"""The forms of texts whose vectors are asked for, and of the vectors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final

from pipelines.common.batch.form import Forms
from pipelines.common.batch.forms.openai import OpenAIRows
from pipelines.common.batch.forms.rows import ObjectRows
from pipelines.common.batch.row import BadRow, Row
from pipelines.common.requests.embeddings import (
    KNOWN,
    Embedding,
    EmbeddingRequest,
    embedding_response,
    read_embedding_request,
)
from pipelines.common.requests.values import RequestError, shown
from pipelines.common.utf8 import NUL


class VectorRecords:
    """The records of rows of one text: flat objects that all have the same fields."""

    def record(self, row: Row[EmbeddingRequest], result: Embedding) -> dict[str, Any]:
        """What is written for a row that was run."""
        (vector,) = result.vectors.tolist()
        return self._record(row, result.tokens, vector, None)

    def failure(self, row: BadRow) -> dict[str, Any]:
        """What is written for a row that could not be run."""
        return self._record(row, None, None, f"line {row.line}: {row.error}")

    def recorded(self, record: Any) -> tuple[int, bool] | None:
        """The line and the success of the row that a record tells of; None if it is none."""
        match record:
            case {"line": int(line), "embedding": vector} if line is not True and line > 0:
                return line, vector is not None
        return None

    def _record(
        self,
        row: Row[EmbeddingRequest] | BadRow,
        tokens: int | None,
        vector: list[float] | None,
        error: str | None,
    ) -> dict[str, Any]:
        record = {
            "id": row.id,
            "line": row.line,
            "tokens": tokens,
            "embedding": vector,
            "error": error,
        }
        return record | ({"extra": dict(row.extra)} if row.extra else {})


class TextLines(VectorRecords):
    """Lines as texts, with their spaces."""

    name = "texts"

    def parse(
        self,
        text: str,
        line: int,
        index: int,  # noqa: ARG002 - the protocol's
        defaults: None,  # noqa: ARG002
    ) -> Row[EmbeddingRequest] | BadRow:
        """Reads one line."""
        if "\0" in text:
            return BadRow(line, None, NUL)
        return Row(line, None, EmbeddingRequest((text,)))


class TextRows(ObjectRows[None, EmbeddingRequest], VectorRecords):
    """Rows as objects with a ``text``, and maybe an ``id``."""

    name = "text-rows"
    field = "text"
    known = frozenset({"text"})

    def read(
        self,
        fields: Mapping[str, Any],
        defaults: None,  # noqa: ARG002 - the protocol's
        index: int,  # noqa: ARG002
    ) -> EmbeddingRequest:
        """See `ObjectRows.read`."""
        text = fields.get("text")
        if not isinstance(text, str) or not text:
            raise RequestError(f"text is {shown(text)}; expected a text that is not empty")
        return EmbeddingRequest((text,))


class EmbeddingRequests(OpenAIRows[None, EmbeddingRequest, Embedding]):
    """Rows as requests of embeddings of the OpenAI Batch API."""

    name = "embeddings"
    fields: ClassVar = {"/v1/embeddings": "input"}
    known = KNOWN

    def read(
        self,
        body: Mapping[str, Any],
        defaults: None,  # noqa: ARG002 - the protocol's
        index: int,  # noqa: ARG002
    ) -> EmbeddingRequest:
        """See `OpenAIRows.read`."""
        return read_embedding_request(body)

    def body(self, row: Row[EmbeddingRequest], result: Embedding) -> dict[str, Any]:
        """See `OpenAIRows.body`."""
        return embedding_response(row.extra["model"], row.request, result)


TEXTS: Final[Forms[None, EmbeddingRequest, Embedding]] = Forms(
    "text", TextLines(), TextRows(), EmbeddingRequests()
)
