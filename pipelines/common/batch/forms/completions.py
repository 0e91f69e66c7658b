"""The OpenAI Batch API's form of completions and of chat, as vLLM's ``run_batch`` reads it too.

Input and output lines: https://platform.openai.com/docs/api-reference/batch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from pipelines.common.batch.row import BadRow, Row
from pipelines.common.requests.completions import chat_completion, completion, invalid_request
from pipelines.common.requests.fields import check_text, load_object, read_request
from pipelines.common.requests.text import Defaults, Result
from pipelines.common.requests.values import RequestError, shown
from pipelines.common.requests.vocabulary import KNOWN

_FIELDS: Final = {"/v1/completions": "prompt", "/v1/chat/completions": "messages"}
"""What a request has to have, by its URL."""

_ENVELOPE: Final = frozenset({"custom_id", "method", "url", "body"})
_ID: Final = re.compile(r"batch_req_([1-9][0-9]{0,17})")


class Completions:
    """Rows as requests of the Batch API, records as its responses.

    What a body does not say, or says with null, is as by default here, not as OpenAI has it. What
    has no effect, see `pipelines.common.requests.vocabulary`, is left out of the record.
    """

    name = "completions"

    def parse(self, text: str, line: int, index: int, defaults: Defaults) -> Row | BadRow:
        """Reads one line."""
        custom_id: str | None = None
        extra: dict[str, Any] = {}
        unknown: tuple[str, ...] = ()
        try:
            request = load_object(text, "the line")
            custom_id = _read_custom_id(request)
            check_text(request)
            body = _read_body(request)
            extra = {"model": body.get("model")}
            unknown = (
                *(name for name in request if name not in _ENVELOPE),
                *(name for name in body if name not in KNOWN),
            )
            return Row(line, custom_id, read_request(body, defaults, index), extra, unknown)
        except RequestError as error:
            return BadRow(line, custom_id, str(error), extra, unknown)

    def record(self, row: Row, result: Result) -> dict[str, Any]:
        """What is written for a row that was run."""
        if isinstance(row.request.prompt, str):
            body = completion(f"cmpl-{row.line}", row.extra["model"], result)
        else:
            body = chat_completion(f"chatcmpl-{row.line}", row.extra["model"], result)
        return _response(row, 200, body)

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


def _read_body(request: Mapping[str, Any]) -> dict[str, Any]:
    method, url, body = (request.get(name) for name in ("method", "url", "body"))
    if not isinstance(url, str) or url not in _FIELDS:
        raise RequestError(f"url is {shown(url)}; expected {' or '.join(map(shown, _FIELDS))}")
    own = _FIELDS[url]
    if method != "POST":
        raise RequestError(f'method is {shown(method)}; expected "POST"')
    if not isinstance(body, dict):
        raise RequestError(f'body is {shown(body)}; expected an object, {{"{own}": ...}}')
    for other in _FIELDS.values():
        if other != own and body.get(other) is not None:
            raise RequestError(f"there is {other} in a request of {url}; expected {own}")
    return body


def _response(row: Row | BadRow, status: int, body: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": f"batch_req_{row.line}",
        "custom_id": row.id,
        "response": {"status_code": status, "request_id": f"req_{row.line}", "body": body},
        "error": None,
    }
