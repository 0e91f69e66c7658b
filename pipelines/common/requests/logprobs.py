"""Log-probabilities in JSON: those of our own records, and OpenAI's two forms.

https://platform.openai.com/docs/api-reference/completions/object and .../chat/object
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.common.engine.sequence import TextSequence
from pipelines.common.text.detokenizer import Detokenizer
from pipelines.common.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Scored:
    r"""A token, and how likely the model finds it.

    Attributes:
        id: The token.
        spelled: Its text, with a control token's name, and ``\xe2`` for a byte of a character.
        content: The bytes that it adds to a text; None of a control token.
        logprob: The natural logarithm of its probability.
    """

    id: int
    spelled: str
    content: bytes | None
    logprob: float


@dataclass(frozen=True)
class Position:
    """A place of the output.

    Attributes:
        chosen: The token that was chosen.
        top: The likeliest ones, the likeliest first.
        offset: Characters of the output that are complete before it.
    """

    chosen: Scored
    top: Sequence[Scored]
    offset: int


def positions(sequence: TextSequence, tokenizer: Tokenizer) -> tuple[Position, ...] | None:
    """The places of a sequence's output; None if nobody asked for log-probabilities.

    Those of a stop string at the end are among them.
    """
    if sequence.request.logprobs is None:
        return None
    found, offset, detokenizer = [], 0, Detokenizer(tokenizer)
    for each in sequence.logprobs:
        chosen = _scored(tokenizer, each.token, each.logprob)
        top = [_scored(tokenizer, *other) for other in each.top]
        found.append(Position(chosen, top, offset))
        offset += len(detokenizer.push(each.token))
    return tuple(found)


def position_records(places: Iterable[Position]) -> list[dict[str, Any]]:
    """As our own records have them: an object a token, OpenAI's of chat with ids."""
    return [
        {"id": place.chosen.id, **_entry(place.chosen)}
        | {"top_logprobs": [{"id": each.id, **_entry(each)} for each in place.top]}
        for place in places
    ]


def chat_logprobs(places: Iterable[Position]) -> dict[str, Any]:
    """As a choice of a chat completion has them."""
    content = [
        _entry(place.chosen) | {"top_logprobs": [_entry(each) for each in place.top]}
        for place in places
    ]
    return {"content": content, "refusal": None}


def completion_logprobs(places: Sequence[Position]) -> dict[str, Any]:
    """As a choice of a completion has them.

    The likeliest tokens are told by their texts, the chosen one always among them; of tokens that
    are spelled alike the likeliest is told.
    """
    tops = []
    for place in places:
        top = {place.chosen.spelled: place.chosen.logprob}
        for each in place.top:
            top[each.spelled] = max(each.logprob, top.get(each.spelled, each.logprob))
        tops.append(dict(sorted(top.items(), key=lambda item: -item[1])))
    return {
        "tokens": [place.chosen.spelled for place in places],
        "token_logprobs": [place.chosen.logprob for place in places],
        "top_logprobs": tops,
        "text_offset": [place.offset for place in places],
    }


def _scored(tokenizer: Tokenizer, id: int, logprob: float) -> Scored:
    spelled = tokenizer.token_bytes(id, special=True).decode("utf-8", errors="backslashreplace")
    control = id in tokenizer.control_tokens
    return Scored(id, spelled, None if control else tokenizer.token_bytes(id), logprob)


def _entry(token: Scored) -> dict[str, Any]:
    content = None if token.content is None else list(token.content)
    return {"token": token.spelled, "logprob": token.logprob, "bytes": content}
