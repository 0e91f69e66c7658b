"""Checked fields of a JSON object, as the JSON forms have them in common."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from pipelines.common.batch.row import Defaults, Row, RowId
from pipelines.common.errors import ParameterError
from pipelines.common.runtime.sampling import SamplingParams

INTEGERS: Final = ("top_k", "seed")
NUMBERS: Final = ("temperature", "top_p", "min_p", "repetition_penalty")

_MAX_SHOWN: Final = 60
_MAX_DEPTH: Final = 100
# Python's own limit is 4300 digits of input and of output, and can be set from outside.
_MAX_DIGITS: Final = 1000

_TOO_DEEP: Final = f"objects and lists are nested more than {_MAX_DEPTH} deep; expected fewer"


class RowError(Exception):
    """What is wrong with a row, in one line."""


def shown(value: Any) -> str:
    """A JSON value as it may stand in a message: one line, of bounded length."""
    text = json.dumps(value, ensure_ascii=False)
    if not text.isprintable():
        text = json.dumps(value)
    return _shortened(text)


def load_object(text: str) -> dict[str, Any]:
    """Reads a JSON object more strictly than `json` does.

    Everything that it returns can be written as JSON again: there are no NaN and no infinities, no
    names that occur twice, and no more than 100 levels. Only strings may still hold surrogates.

    Raises:
        RowError: It is no JSON, no object, or one that cannot be written again.
    """
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        what = error.msg.removesuffix(" at").rstrip(": ")
        raise RowError(f"not JSON at column {error.colno}: {what}") from error
    except RecursionError:
        raise RowError(_TOO_DEEP) from None
    _check_depth(value)
    if not isinstance(value, dict):
        raise RowError(f'the line is {shown(value)}; expected an object, {{"prompt": ...}}')
    return value


def check_text(value: Any) -> None:
    r"""Checks that all strings in a JSON value are text; ``"\ud800"`` is none.

    Raises:
        RowError: One has half of a surrogate pair, which no encoding can write.
    """
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        code = ord(error.object[error.start])
        raise RowError(
            f"\\u{code:04x} is half of a surrogate pair, which is no character; expected text"
        ) from None


def read_row(
    fields: Mapping[str, Any],
    defaults: Defaults,
    *,
    line: int,
    index: int,
    id: RowId,
    limit: str,
    extra: Mapping[str, Any],
) -> Row:
    """The row that the fields of an object describe.

    Args:
        fields: With the names that the forms have in common.
        defaults: What holds for what they do not say.
        line: See `Row`.
        index: How many rows stand before it.
        id: See `Row`.
        limit: What the form calls the most tokens of output.
        extra: See `Row`.

    Raises:
        RowError: There is no prompt, or a field is of the wrong type or out of its range.
    """
    return Row(
        line=line,
        id=id,
        prompt=_prompt(fields),
        sampling=_sampling(fields, defaults, index),
        max_new_tokens=_limit(fields, limit, defaults),
        stops=_stops(fields, defaults),
        extra=extra,
    )


def _prompt(fields: Mapping[str, Any]) -> str:
    """The text to continue.

    Raises:
        RowError: There is none, or it is no text.
    """
    prompt = fields.get("prompt")
    if prompt is None and "messages" in fields:
        raise RowError("chat messages cannot be run yet; expected a prompt")
    if prompt is None:
        raise RowError("there is no prompt; expected a string")
    if not isinstance(prompt, str):
        raise RowError(f"prompt is {shown(prompt)}; expected one string")
    if not prompt:
        raise RowError("prompt is empty; expected at least one character")
    return prompt


def _sampling(fields: Mapping[str, Any], defaults: Defaults, index: int) -> SamplingParams:
    """How tokens are chosen for the row that `index` others stand before.

    Raises:
        RowError: A parameter is of the wrong type or out of its range.
    """
    given: dict[str, Any] = {name: _number(fields, name) for name in NUMBERS}
    given |= {name: _integer(fields, name) for name in INTEGERS}
    given = {name: value for name, value in given.items() if value is not None}
    try:
        return replace(defaults.sampling, **{"seed": defaults.sampling.seed + index, **given})
    except ParameterError as error:
        raise RowError(
            f"{error.name} is {shown(error.value)}; expected {error.expected}"
        ) from error


def _limit(fields: Mapping[str, Any], name: str, defaults: Defaults) -> int:
    """Most tokens of output, which the form calls `name`.

    Raises:
        RowError: It is no integer, or below 1.
    """
    limit = _integer(fields, name)
    if limit is None:
        return defaults.max_new_tokens
    if limit < 1:
        raise RowError(f"{name} is {shown(limit)}; expected an integer, 1 or more")
    return limit


def _stops(fields: Mapping[str, Any], defaults: Defaults) -> tuple[str, ...]:
    """Strings that end the text; an empty list is none, also where there are default ones.

    Raises:
        RowError: It is neither a string nor a list of strings, or one is empty.
    """
    stop = fields.get("stop")
    if stop is None:
        return defaults.stops
    stops = stop if isinstance(stop, list) else [stop]
    if not all(isinstance(each, str) and each for each in stops):
        raise RowError(
            f"stop is {shown(stop)}; expected a string or a list of strings, none of them empty"
        )
    return tuple(stops)


def _shortened(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 3]}..."


def _number(fields: Mapping[str, Any], name: str) -> float | None:
    value = fields.get(name)
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise RowError(f"{name} is {shown(value)}; expected a number")
    _check_size(name, value)
    return value


def _integer(fields: Mapping[str, Any], name: str) -> int | None:
    value = fields.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        raise RowError(f"{name} is {shown(value)}; expected an integer")
    _check_size(name, value)
    return value


def _check_size(name: str, value: float) -> None:
    """Keeps integers out that no float can hold."""
    if isinstance(value, int) and abs(value) >= 1 << 63:
        raise RowError(f"{name} is {shown(value)}; expected an integer of 63 bits at most")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise RowError(f"{shown(name)} is given twice in one object; expected it once")
            seen.add(name)
    return fields


def _parse_integer(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise RowError(f"a number has {len(digits)} digits; expected {_MAX_DIGITS} at most")
    return int(digits)


def _parse_float(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise RowError(f"{_shortened(digits)} is too large; expected a number below 1.8e308")
    return value


def _refuse_constant(name: str) -> None:
    raise RowError(f"{name} is no number in JSON; expected one, or null")


def _check_depth(value: Any) -> None:
    level, depth = [value], 0
    while level:
        if depth == _MAX_DEPTH:
            raise RowError(_TOO_DEEP)
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
