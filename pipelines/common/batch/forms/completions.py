"""Completions of the OpenAI Batch API, of prompts and of messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pipelines.common.batch.forms.openai import OpenAIRows
from pipelines.common.batch.row import Row
from pipelines.common.requests.completions import chat_completion, completion
from pipelines.common.requests.fields import read_request
from pipelines.common.requests.text import Defaults, Result, TextRequest
from pipelines.common.requests.vocabulary import KNOWN


class Completions(OpenAIRows[Defaults, TextRequest, Result]):
    """Rows as requests of completions.

    What a body does not say, or says with null, is as by default here, not as OpenAI has it. What
    has no effect, see `pipelines.common.requests.vocabulary`, is left out of the record.
    """

    name = "completions"
    fields: ClassVar = {"/v1/completions": "prompt", "/v1/chat/completions": "messages"}
    known = KNOWN

    def read(self, body: Mapping[str, Any], defaults: Defaults, index: int) -> TextRequest:
        """See `OpenAIRows.read`."""
        return read_request(body, defaults, index)

    def body(self, row: Row[TextRequest], result: Result) -> dict[str, Any]:
        """See `OpenAIRows.body`."""
        if isinstance(row.request.prompt, str):
            return completion(f"cmpl-{row.line}", row.extra["model"], result)
        return chat_completion(f"chatcmpl-{row.line}", row.extra["model"], result)
