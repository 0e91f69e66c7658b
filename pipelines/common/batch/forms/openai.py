"""The OpenAI Batch API's form of requests and responses, which vLLM's ``run_batch`` reads as well.

Input and output lines: https://platform.openai.com/docs/api-reference/batch.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from typing import Any, ClassVar, Final, Generic, TypeVar

from pipelines.common.batch.form import D
from pipelines.common.batch.row import BadRow, R, Row
from pipelines.common.requests.completions import invalid_request
from pipelines.common.requests.fields import check_text, load_object
from pipelines.common.requests.values import RequestError, shown

T = TypeVar("T")

ENVELOPE: Final = ("custom_id", "body")
"""Fields by which a row of this form is told from others."""

_ENVELOPE: Final = frozenset({*ENVELOPE, "method", "url"})
_ID: Final = re.compile(r"batch_req_([1-9][0-9]{0,17})")


class OpenAIRows(ABC, Generic[D, R, T]):
    """Rows as requests to an address, records as its responses.

    Attributes:
        fields: What a body has at the least, by the address.
        known: Fields of a body; others are told.
    """

    fields: ClassVar[Mapping[str, str]]
    known: ClassVar[Collection[str]]

    @abstractmethod
    def read(self, body: Mapping[str, Any], defaults: D, index: int) -> R:
        """What a body asks for.

        Raises:
            RequestError: It is none.
        """

    @abstractmethod
    def body(self, row: Row[R], result: T) -> dict[str, Any]:
        """The body of a response."""

    def parse(self, text: str, line: int, index: int, defaults: D) -> Row[R] | BadRow:
        """Reads one line."""
        custom_id: str | None = None
        extra: dict[str, Any] = {}
        unknown: tuple[str, ...] = ()
        try:
            request = load_object(text, "the line")
            custom_id = _read_custom_id(request)
            check_text(request)
            body = self._read_body(request)
            extra = {"model": body.get("model")}
            unknown = (
                *(name for name in request if name not in _ENVELOPE),
                *(name for name in body if name not in self.known),
            )
            return Row(line, custom_id, self.read(body, defaults, index), extra, unknown)
        except RequestError as error:
            return BadRow(line, custom_id, str(error), extra, unknown)

    def record(self, row: Row[R], result: T) -> dict[str, Any]:
        """What is written for a row that was run."""
        return _response(row, 200, self.body(row, result))

    def failure(self, row: BadRow) -> dict[str, Any]:
        """What is written for a row that could not be run."""
        return _response(row, 400, invalid_request(f"line {row.line}: {row.error}"))

    def recorded(self, record: Any) -> tuple[int, bool] | None:
        """The line and the success of the row that a record tells of; None if it is none."""
        match record:
            case {"id": str(name), "response": {"status_code": int(status)}}:
                if number := _ID.fullmatch(name):
                    return int(number[1]), status == 200
        return None

    def _read_body(self, request: Mapping[str, Any]) -> dict[str, Any]:
        method, url, body = (request.get(name) for name in ("method", "url", "body"))
        if not isinstance(url, str) or url not in self.fields:
            expected = " or ".join(map(shown, self.fields))
            raise RequestError(f"url is {shown(url)}; expected {expected}")
        own = self.fields[url]
        if method != "POST":
            raise RequestError(f'method is {shown(method)}; expected "POST"')
        if not isinstance(body, dict):
            raise RequestError(f'body is {shown(body)}; expected an object, {{"{own}": ...}}')
        for other in self.fields.values():
            if other != own and body.get(other) is not None:
                raise RequestError(f"there is {other} in a request of {url}; expected {own}")
        return body


def _read_custom_id(request: Mapping[str, Any]) -> str:
    custom_id = request.get("custom_id")
    if custom_id is None:
        raise RequestError(
            'there is no custom_id; expected {"custom_id", "method", "url", "body"} as in the '
            "OpenAI Batch API"
        )
    if not isinstance(custom_id, str):
        raise RequestError(f"custom_id is {shown(custom_id)}; expected a string")
    check_text(custom_id)
    return custom_id


def _response(row: Row[Any] | BadRow, status: int, body: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": f"batch_req_{row.line}",
        "custom_id": row.id,
        "response": {"status_code": status, "request_id": f"req_{row.line}", "body": body},
        "error": None,
    }
