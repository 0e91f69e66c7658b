"""OpenAI's completions: the response to a request, whose body `read_request` reads.

https://platform.openai.com/docs/api-reference/completions and .../chat/object
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
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
    answers = [
        {
            "text": each.text,
            "logprobs": None if each.logprobs is None else completion_logprobs(each.logprobs),
        }
        for each in result.samples
    ]
    return _body(id, "text_completion", model, answers, result)


def chat_completion(id: str, model: Any, result: Result) -> dict[str, Any]:
    """The body of the response to messages, see `completion`."""
    answers = [
        {
            "message": {"role": "assistant", "content": each.text, "refusal": None},
            "logprobs": None if each.logprobs is None else chat_logprobs(each.logprobs),
        }
        for each in result.samples
    ]
    return _body(id, "chat.completion", model, answers, result)


def _body(
    id: str, kind: str, model: Any, answers: Sequence[Mapping[str, Any]], result: Result
) -> dict[str, Any]:
    choices = [
        {"index": index, **answer, "finish_reason": each.finish_reason}
        for index, (answer, each) in enumerate(zip(answers, result.samples, strict=True))
    ]
    generated = sum(each.generated_tokens for each in result.samples)
    usage = {
        "prompt_tokens": result.prompt_tokens,
        "completion_tokens": generated,
        "total_tokens": result.prompt_tokens + generated,
        "prompt_tokens_details": {"cached_tokens": result.shared_tokens},
    }
    return {
        "id": id,
        "object": kind,
        "created": int(time.time()),
        "model": model,
        "choices": choices,
        "usage": usage,
        "timings": timings_record(result.timings),
    }


def invalid_request(message: str) -> dict[str, Any]:
    """The body of the response to a request that cannot be run."""
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
    return {"error": error}
