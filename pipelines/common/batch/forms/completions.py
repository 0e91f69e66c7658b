"""Completions of the OpenAI Batch API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pipelines.common.batch.forms.openai import OpenAIRows
from pipelines.common.batch.row import Row
from pipelines.common.requests.completions import completion
from pipelines.common.requests.fields import read_request, shown
from pipelines.common.requests.text import Defaults, Result, TextRequest
from pipelines.common.requests.vocabulary import KNOWN

_CHAT_URL: Final = "/v1/chat/completions"


class Completions(OpenAIRows[Defaults, TextRequest, Result]):
    """Rows as requests of completions.

    What a body does not say, or says with null, is as by default here, not as OpenAI has it. What
    has no effect, see `pipelines.common.requests.vocabulary`, is left out of the record.
    """

    name = "completions"
    url = "/v1/completions"
    field = "prompt"
    known = KNOWN

    def read(self, body: Mapping[str, Any], defaults: Defaults, index: int) -> TextRequest:
        """See `OpenAIRows.read`."""
        return read_request(body, defaults, index)

    def body(self, row: Row[TextRequest], result: Result) -> dict[str, Any]:
        """See `OpenAIRows.body`."""
        return completion(f"cmpl-{row.line}", row.extra["model"], result)

    def _other_url(self, url: Any) -> str:
        if url == _CHAT_URL:
            return (
                f"url is {shown(url)}; chat messages cannot be run yet, use {self.url} with a"
                " prompt"
            )
        return super()._other_url(url)
