"""Dataclasses from JSON, strictly: every field is there, nothing else, each of its type."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from pipelines.common.errors import quoted

T = TypeVar("T")

_NAMES = {
    bool: "a boolean",
    int: "an integer",
    float: "a finite number",
    str: "a text",
    NoneType: "null",
    tuple: "a list",
    dict: "an object",
}


def record(kind: type[T], value: object, where: str = "") -> T:
    """Makes a dataclass of what `dataclasses.asdict` and JSON have made of one.

    Args:
        kind: The dataclass; its fields are of simple types, their unions with None, tuples of any
            length, dictionaries by name, and other dataclasses.
        value: What was read.
        where: Which field it is, for messages; empty for the whole.

    Raises:
        ValueError: Something is missing, unknown, or of another type; the message names it.
    """
    made: T = _read(kind, value, where)
    return made


def _read(kind: Any, value: object, where: str) -> Any:
    if dataclasses.is_dataclass(kind):
        return _dataclass(kind, value, where)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is UnionType:
        (other,) = (argument for argument in arguments if argument is not NoneType)
        return None if value is None else _read(other, value, where)
    if origin is tuple:
        items = _of_type(list, value, where, tuple)
        return tuple(_read(arguments[0], item, f"{where}[{n}]") for n, item in enumerate(items))
    if origin is dict:
        return {
            key: _read(arguments[1], item, _inside(where, key))
            for key, item in _of_type(dict, value, where, dict).items()
        }
    if kind is float:
        return _number(value, where)
    return _of_type(kind, value, where, kind)


def _dataclass(kind: Any, value: object, where: str) -> Any:
    fields: Mapping[str, object] = _of_type(dict, value, where, dict)
    types = _types(kind)
    for name in types:
        if name not in fields:
            raise ValueError(f"{_inside(where, name)} is missing")
    for name in fields:
        if name not in types:
            raise ValueError(f"{_inside(where, name)} is not known")
    return kind(**{name: _read(types[name], fields[name], _inside(where, name)) for name in types})


@functools.cache
def _types(kind: Any) -> dict[str, Any]:
    """Types of a dataclass's fields, by name; to work them out takes longer than to read one."""
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _number(value: object, where: str) -> float:
    try:
        number = float(value) if isinstance(value, int | float) else math.nan
    except OverflowError:
        number = math.inf
    if isinstance(value, bool) or not math.isfinite(number):
        raise _wrong(value, where, float)
    return number


def _of_type(kind: type[T], value: object, where: str, expected: type) -> T:
    if type(value) is not kind:  # a bool is an int to isinstance
        raise _wrong(value, where, expected)
    return value


def _wrong(value: object, where: str, expected: type) -> ValueError:
    return ValueError(f"{where or 'it'} is {quoted(str(value))}, expected {_NAMES[expected]}")


def _inside(where: str, name: str) -> str:
    name = name if name.isidentifier() else quoted(name)
    return f"{where}.{name}" if where else name
