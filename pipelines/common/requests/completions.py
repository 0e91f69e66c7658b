"""OpenAI's completions: the response to a request, whose body `read_request` reads.

https://platform.openai.com/docs/api-reference/completions and .../chat/object
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from pipelines.common.requests.logprobs import chat_logprobs, completion_logprobs
from pipelines.common.requests.text import Result, timings_record


def completion(id: str, model: Any, result: Result) -> dict[str, Any]:
    """The body of the response.

    Args:
        id: What the response is called.
        model: What the request calls the model, which has no effect.
        result: What came of the request.
    """
    logprobs = None if result.logprobs is None else completion_logprobs(result.logprobs)
    answer = {"text": result.text, "logprobs": logprobs}
    return _body(id, "text_completion", model, answer, result)


def chat_completion(id: str, model: Any, result: Result) -> dict[str, Any]:
    """The body of the response to messages, see `completion`."""
    message = {"role": "assistant", "content": result.text, "refusal": None}
    logprobs = None if result.logprobs is None else chat_logprobs(result.logprobs)
    answer = {"message": message, "logprobs": logprobs}
    return _body(id, "chat.completion", model, answer, result)


def _body(
    id: str, kind: str, model: Any, answer: Mapping[str, Any], result: Result
) -> dict[str, Any]:
    choice = {
        "index": 0,
        **answer,
        "finish_reason": result.finish_reason,
    }
    usage = {
        "prompt_tokens": result.prompt_tokens,
        "completion_tokens": result.generated_tokens,
        "total_tokens": result.prompt_tokens + result.generated_tokens,
        "prompt_tokens_details": {"cached_tokens": result.shared_tokens},
    }
    return {
        "id": id,
        "object": kind,
        "created": int(time.time()),
        "model": model,
        "choices": [choice],
        "usage": usage,
        "timings": timings_record(result.timings),
    }


def invalid_request(message: str) -> dict[str, Any]:
    """The body of the response to a request that cannot be run."""
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
    return {"error": error}
