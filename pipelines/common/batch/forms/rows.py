"""JSON Lines: an object a row, with its prompt and whatever it wants otherwise than the others."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from typing import Any, ClassVar, Generic

from pipelines.common.batch.form import D
from pipelines.common.batch.forms.openai import ENVELOPE
from pipelines.common.batch.row import BadRow, R, Row, RowId
from pipelines.common.engine.sequence import Timings
from pipelines.common.requests.fields import check_text, load_object, read_request
from pipelines.common.requests.logprobs import position_records
from pipelines.common.requests.text import Defaults, Result, TextRequest, timings_record
from pipelines.common.requests.values import RequestError, shown
from pipelines.common.requests.vocabulary import HARMLESS, KNOWN


class ObjectRows(ABC, Generic[D, R]):
    """Reads rows from objects. What has no effect goes into the record.

    Attributes:
        field: What a row has at the least.
        known: Its other fields, but for ``id``.
        harmless: Those of them that have no effect.
    """

    field: ClassVar[str]
    known: ClassVar[Collection[str]]
    harmless: ClassVar[Collection[str]] = ()

    @abstractmethod
    def read(self, fields: Mapping[str, Any], defaults: D, index: int) -> R:
        """What the fields of a row ask for.

        Raises:
            RequestError: They make no sense.
        """

    def parse(self, text: str, line: int, index: int, defaults: D) -> Row[R] | BadRow:
        """Reads one line."""
        row_id: RowId = None
        extra: dict[str, Any] = {}
        unknown: tuple[str, ...] = ()
        try:
            fields = load_object(text, "the line")
            row_id = _read_id(fields.get("id"))
            check_text(fields)
            unknown = tuple(n for n in fields if n not in self.known and n != "id")
            extra = {n: v for n, v in fields.items() if n in self.harmless or n in unknown}
            if self.field not in fields and extra.keys() & {*ENVELOPE}:
                raise RequestError(
                    "this is a row of the OpenAI Batch API, but the first one is not; put rows of "
                    "the two forms into two files"
                )
            return Row(line, row_id, self.read(fields, defaults, index), extra, unknown)
        except RequestError as error:
            return BadRow(line, row_id, str(error), extra, unknown)


class RowRecords:
    """The records of rows: objects that have the same fields, and what more was asked for."""

    def record(self, row: Row[TextRequest], result: Result) -> dict[str, Any]:
        """What is written for a row that was run."""
        record: dict[str, Any] = {
            "id": row.id,
            "line": row.line,
            "text": result.text,
            "finish_reason": result.finish_reason,
            "prompt_tokens": result.prompt_tokens,
            "shared_prompt_tokens": result.shared_tokens,
            "generated_tokens": result.generated_tokens,
            "seed": row.request.sampling.seed,
            "timings": timings_record(result.timings),
            "error": None,
        }
        if result.logprobs is not None:
            record["logprobs"] = position_records(result.logprobs)
        if result.others:
            record["choices"] = [
                _choice(each, row.request.seed_of(index))
                for index, each in enumerate(result.samples)
            ]
        return record | ({"extra": dict(row.extra)} if row.extra else {})

    def failure(self, row: BadRow) -> dict[str, Any]:
        """What is written for a row that could not be run."""
        record = {
            "id": row.id,
            "line": row.line,
            "text": None,
            "finish_reason": "error",
            "prompt_tokens": None,
            "shared_prompt_tokens": None,
            "generated_tokens": None,
            "seed": None,
            "timings": dict.fromkeys(timings_record(Timings())),
            "error": f"line {row.line}: {row.error}",
        }
        return record | ({"extra": dict(row.extra)} if row.extra else {})

    def recorded(self, record: Any) -> tuple[int, bool] | None:
        """The line and the success of the row that a record tells of; None if it is none."""
        match record:
            case {"line": int(line), "finish_reason": str(reason)} if line is not True and line > 0:
                return line, reason != "error"
        return None


class JsonRows(ObjectRows[Defaults, TextRequest], RowRecords):
    """Rows as objects; what they do not say, or say with null, is as by default.

    Fields: ``id``, and those of `pipelines.common.requests.vocabulary`.
    """

    name = "rows"
    field = "prompt"
    known = KNOWN
    harmless = HARMLESS

    def read(self, fields: Mapping[str, Any], defaults: Defaults, index: int) -> TextRequest:
        """See `ObjectRows.read`."""
        return read_request(fields, defaults, index)


def _choice(result: Result, seed: int) -> dict[str, Any]:
    """One of several samples."""
    choice: dict[str, Any] = {
        "text": result.text,
        "finish_reason": result.finish_reason,
        "generated_tokens": result.generated_tokens,
        "seed": seed,
    }
    if result.logprobs is not None:
        choice["logprobs"] = position_records(result.logprobs)
    return choice


def _read_id(value: Any) -> RowId:
    if isinstance(value, bool) or not isinstance(value, str | int | None):
        raise RequestError(f"id is {shown(value)}; expected a string or an integer")
    check_text(value)
    return value
