"""Checked fields of a JSON object, as all forms of requests have them in common."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from pipelines.common.chat.messages import Messages
from pipelines.common.engine.sampling import RANDOM_SEED, SamplingParams
from pipelines.common.engine.sampling.order import stages
from pipelines.common.errors import ParameterError, PluginError, UsageError
from pipelines.common.requests.messages import read_messages
from pipelines.common.requests.text import Defaults, TextRequest
from pipelines.common.requests.values import RequestError, shortened, shown
from pipelines.common.requests.vocabulary import INTEGERS, LIMITS, NOT_OFFERED, NUMBERS, OTHERS

_MAX_DEPTH: Final = 100
# Python's own limit is 4300 digits of input and of output, and can be set from outside.
_MAX_DIGITS: Final = 1000

_MOST_SAMPLES: Final = 128
"""As OpenAI has it."""

_TOKEN: Final = re.compile("[0-9]{1,18}")

_TOO_DEEP: Final = f"objects and lists are nested more than {_MAX_DEPTH} deep; expected fewer"


def load_object(text: str, source: str) -> dict[str, Any]:
    """Reads a JSON object more strictly than `json` does.

    Everything that it returns can be written as JSON again: there are no NaN and no infinities, no
    names that occur twice, and no more than 100 levels. Only strings may still hold surrogates.

    Args:
        text: The object.
        source: What messages call it.

    Raises:
        RequestError: It is no JSON, no object, or one that cannot be written again.
    """
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        what = error.msg.removesuffix(" at").rstrip(": ")
        raise RequestError(f"not JSON at column {error.colno}: {what}") from error
    except RecursionError:
        raise RequestError(_TOO_DEEP) from None
    _check_depth(value)
    if not isinstance(value, dict):
        raise RequestError(f'{source} is {shown(value)}; expected an object, {{"prompt": ...}}')
    return value


def check_text(value: Any) -> None:
    r"""Checks that all strings in a JSON value are text; ``"\ud800"`` is none.

    Raises:
        RequestError: One has half of a surrogate pair, which no encoding can write.
    """
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        code = ord(error.object[error.start])
        raise RequestError(
            f"\\u{code:04x} is half of a surrogate pair, which is no character; expected text"
        ) from None


def read_request(fields: Mapping[str, Any], defaults: Defaults, index: int = 0) -> TextRequest:
    """The request that the fields of an object describe.

    Args:
        fields: With the names of `pipelines.common.requests.vocabulary`.
        defaults: What holds for what they do not say.
        index: How many requests came before it.

    Raises:
        RequestError: There is no prompt, a field is of the wrong type or out of its range, or it
            asks for what is not offered.
    """
    check_offered(fields)
    return TextRequest(
        prompt=_prompt(fields),
        sampling=read_sampling(fields, defaults, index),
        max_new_tokens=_limit(fields, defaults),
        stops=_stops(fields, defaults),
        logprobs=_logprobs(fields, defaults),
        samples=_samples(fields),
    )


def _prompt(fields: Mapping[str, Any]) -> str | Messages:
    """The text to continue, or the conversation to reply in.

    Raises:
        RequestError: There is neither, there are both, or it is no text and no messages.
    """
    prompt, messages = fields.get("prompt"), fields.get("messages")
    if messages is not None:
        if prompt is not None:
            raise RequestError("there is a prompt beside the messages; expected one of them")
        return read_messages(messages)
    if prompt is None:
        raise RequestError("there is no prompt and there are no messages; expected one of them")
    if isinstance(prompt, list) and len(prompt) == 1:  # as OpenAI's may be
        (prompt,) = prompt
    if not isinstance(prompt, str):
        raise RequestError(f"prompt is {shown(fields['prompt'])}; expected one string")
    if not prompt:
        raise RequestError("prompt is empty; expected at least one character")
    return prompt


def read_sampling(fields: Mapping[str, Any], defaults: Defaults, index: int = 0) -> SamplingParams:
    """How tokens are chosen.

    Args:
        fields: See `read_request`.
        defaults: What holds for what they do not say.
        index: How many requests came before this one.

    Raises:
        RequestError: A parameter is of the wrong type or out of its range.
    """
    given: dict[str, Any] = {name: _number(fields, name) for name in NUMBERS}
    given |= {name: _integer(fields, name) for name in INTEGERS}
    given |= _others(fields, defaults)
    if given["seed"] == RANDOM_SEED:  # which is what it has without one
        given["seed"] = None
    given = {name: value for name, value in given.items() if value is not None}
    try:
        return replace(defaults.sampling, **{"seed": defaults.sampling.seed + index, **given})
    except ParameterError as error:
        raise RequestError(
            f"{error.name} is {shown(error.value)}; expected {error.expected}"
        ) from error


def _others(fields: Mapping[str, Any], defaults: Defaults) -> dict[str, Any]:
    """Settings of sampling that are no numbers; None for what is not given.

    Raises:
        RequestError: One is of the wrong type, or names what there is not.
    """
    given: dict[str, Any] = {name: fields.get(name) for name in OTHERS}
    if not isinstance(ignore := given["ignore_eos"], bool | None):
        raise RequestError(f"ignore_eos is {shown(ignore)}; expected true or false")
    if (breakers := given["dry_sequence_breakers"]) is not None:
        if not isinstance(breakers, list) or not all(isinstance(each, str) for each in breakers):
            raise RequestError(
                f"dry_sequence_breakers is {shown(breakers)}; expected a list of strings"
            )
        given["dry_sequence_breakers"] = tuple(breakers)
    if (biases := given["logit_bias"]) is not None:
        given["logit_bias"] = _biases(biases)
    if (order := given["samplers"]) is not None:
        text = ";".join(map(str, order)) if isinstance(order, list) else order
        if not isinstance(text, str):
            raise RequestError(f"samplers is {shown(order)}; expected a list of names")
        try:
            given["samplers"] = stages(text, defaults.find_sampler)
        except ParameterError as error:
            raise RequestError(
                f"samplers is {shown(error.value)}; expected {error.expected}"
            ) from error
        except (UsageError, PluginError) as error:
            raise RequestError(str(error)) from error
    return given


def _biases(value: Any) -> tuple[tuple[int, float], ...]:
    """What is added to the logits of tokens.

    Raises:
        RequestError: It is no object of ids and numbers.
    """
    if not isinstance(value, dict) or not all(
        _TOKEN.fullmatch(name) and isinstance(bias, int | float) for name, bias in value.items()
    ):
        raise RequestError(
            f'logit_bias is {shown(value)}; expected an object of token ids, {{"50256": -100}}'
        )
    return tuple((int(name), bias) for name, bias in value.items())


def check_offered(fields: Mapping[str, Any]) -> None:
    """Makes sure that nothing is asked for but what is offered.

    Raises:
        RequestError: Something is.
    """
    for name, neutral in NOT_OFFERED.items():
        value = fields.get(name)
        if value is None or any(_same(value, one) for one in neutral):
            continue
        expected = " or ".join([*map(shown, neutral), "null"])
        raise RequestError(f"{name} is {shown(value)}, which is not offered; expected {expected}")


def _same(value: Any, other: Any) -> bool:
    """Whether two JSON values are equal; in Python, though not in JSON, true is 1."""
    return value == other and isinstance(value, bool) == isinstance(other, bool)


def _limit(fields: Mapping[str, Any], defaults: Defaults) -> int:
    """Most tokens of output.

    Raises:
        RequestError: It is no integer, below 1, or given twice, as two.
    """
    limits = {name: _integer(fields, name) for name in LIMITS}
    given = {name: limit for name, limit in limits.items() if limit is not None}
    for name, limit in given.items():
        if limit < 1:
            raise RequestError(f"{name} is {shown(limit)}; expected an integer, 1 or more")
    if len(set(given.values())) > 1:
        named = " and ".join(f"{name} is {limit}" for name, limit in given.items())
        raise RequestError(f"{named}, which mean the same; expected one of them")
    return next(iter(given.values()), defaults.max_new_tokens)


def _stops(fields: Mapping[str, Any], defaults: Defaults) -> tuple[str, ...]:
    """Strings that end the text; an empty list is none, also where there are default ones.

    Raises:
        RequestError: It is neither a string nor a list of strings, or one is empty.
    """
    stop = fields.get("stop")
    if stop is None:
        return defaults.stops
    stops = stop if isinstance(stop, list) else [stop]
    if not all(isinstance(each, str) and each for each in stops):
        raise RequestError(
            f"stop is {shown(stop)}; expected a string or a list of strings, none of them empty"
        )
    return tuple(stops)


def _samples(fields: Mapping[str, Any]) -> int:
    """How many outputs are wanted.

    Raises:
        RequestError: It is no integer, or out of its range.
    """
    count = _integer(fields, "n")
    if count is not None and not 1 <= count <= _MOST_SAMPLES:
        raise RequestError(f"n is {shown(count)}; expected an integer from 1 to {_MOST_SAMPLES}")
    return count or 1


def _logprobs(fields: Mapping[str, Any], defaults: Defaults) -> int | None:
    """How many of the likeliest tokens are told at each place, see `Request.logprobs`.

    Raises:
        RequestError: It is no such number, or one is given beside what is not true.
    """
    asked, top = fields.get("logprobs"), _integer(fields, "top_logprobs")
    if top and asked is not True:
        raise RequestError(f"top_logprobs is {top}; expected logprobs true beside it")
    if asked is None:
        return defaults.logprobs
    if isinstance(asked, bool):
        name, count = "top_logprobs", (top or 0) if asked else None
    else:
        name, count = "logprobs", asked
    if count is not None and (not isinstance(count, int) or not 0 <= count < 1 << 63):
        others = "" if name == "top_logprobs" else ", true or false"
        raise RequestError(f"{name} is {shown(count)}; expected an integer, 0 or more{others}")
    return count


def _number(fields: Mapping[str, Any], name: str) -> float | None:
    value = fields.get(name)
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise RequestError(f"{name} is {shown(value)}; expected a number")
    _check_size(name, value)
    return value


def _integer(fields: Mapping[str, Any], name: str) -> int | None:
    value = fields.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        raise RequestError(f"{name} is {shown(value)}; expected an integer")
    _check_size(name, value)
    return value


def _check_size(name: str, value: float) -> None:
    """Keeps integers out that no float can hold."""
    if isinstance(value, int) and abs(value) >= 1 << 63:
        raise RequestError(f"{name} is {shown(value)}; expected an integer of 63 bits at most")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise RequestError(f"{shown(name)} is given twice in one object; expected it once")
            seen.add(name)
    return fields


def _parse_integer(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise RequestError(f"a number has {len(digits)} digits; expected {_MAX_DIGITS} at most")
    return int(digits)


def _parse_float(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise RequestError(f"{shortened(digits)} is too large; expected a number below 1.8e308")
    return value


def _refuse_constant(name: str) -> None:
    raise RequestError(f"{name} is no number in JSON; expected one, or null")


def _check_depth(value: Any) -> None:
    level, depth = [value], 0
    while level:
        if depth == _MAX_DEPTH:
            raise RequestError(_TOO_DEEP)
        inside = (inner for outer in level for inner in _inside(outer))
        level, depth = [inner for inner in inside if isinstance(inner, dict | list)], depth + 1


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_unique,
    parse_float=_parse_float,
    parse_int=_parse_integer,
    parse_constant=_refuse_constant,
)
