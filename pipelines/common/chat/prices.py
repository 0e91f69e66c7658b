"""What operators, filters and methods of a template cost before they are done.

Most make nothing that is larger than what they are given. Those that do are charged for what they
could make at the most, from the sizes of their arguments.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sized
from typing import Any, Final

from pipelines.common.chat.meter import LimitError, Meter

_MOST_BITS: Final = 1 << 16
"""Of an integer; no template counts so far."""

_WIDEST: Final = 999
"""Characters that a text may be padded to by a format, and the most digits of a number in one."""

_LARGEST_NUMBER: Final = 10_000
"""That a filter or a method may be given to pad, to cut or to repeat by."""

_TIMES: Final = 16
"""How much more than its arguments a filter or a method may make: escapes, pieces of a text."""

_CONVERSION: Final = re.compile(r"%(?:\([^)]*\))?[^%a-zA-Z]*[%a-zA-Z]")

_REPEATING: Final = frozenset({"batch", "center", "indent", "join", "replace", "slice", "tojson"})
"""Filters that put one argument beside each part of another."""

LAZY: Final = frozenset({"first", "map", "reject", "rejectattr", "select", "selectattr"})
"""Filters that take values one after the other, and do not keep them."""

SHALLOW: Final = frozenset(
    {"count", "d", "default", "first", "items", "last", "length", "list", "reverse"}
)
"""Filters that hand on what is in a value without looking at it."""

_FREE_OF_NUMBERS: Final = frozenset({"float", "int"})

_REPEATING_METHODS: Final = frozenset({"expandtabs", "join", "replace"})
_FROM_THE_RIGHT: Final = frozenset({"rfind", "rindex", "rpartition", "rsplit"})
"""Methods that compare, at worst, everywhere with all of what they look for."""

_PLAIN_METHODS: Final = frozenset(
    {
        *("capitalize", "casefold", "center", "count", "endswith", "find", "index", "isalnum"),
        *("isalpha", "isascii", "isdecimal", "isdigit", "isidentifier", "islower", "isnumeric"),
        *("isprintable", "isspace", "istitle", "isupper", "ljust", "lower", "lstrip", "partition"),
        *("removeprefix", "removesuffix", "rjust", "rstrip", "split", "splitlines", "startswith"),
        *("strip", "swapcase", "title", "upper", "zfill"),
        *("copy", "get", "items", "keys", "values"),
    }
)
METHODS: Final = _PLAIN_METHODS | _REPEATING_METHODS | _FROM_THE_RIGHT
"""Methods of texts, lists and dictionaries that a template may call."""


def charge_filter(meter: Meter, name: str, value: Any, others: tuple[Any, ...]) -> None:
    """Charges for a filter.

    Args:
        meter: What is left.
        name: Its name.
        value: What it is applied to.
        others: Its arguments.
    """
    if name in SHALLOW:
        meter.charge(8 * len(value) if isinstance(value, Sized) else 1)
        return
    if name not in _FREE_OF_NUMBERS:
        _check_numbers(others)
    if name == "format":
        charge_formatting(meter, value, others)
    if name == "sum" and not all(isinstance(each, int | float | str) for each in others):
        raise LimitError("it adds up what are no numbers")
    times = 1 + sum(_weight(meter, each) for each in others) if name in _REPEATING else _TIMES
    meter.charged(value, times)
    meter.charged(others)


def charge_method(meter: Meter, name: str, owner: Any, arguments: tuple[Any, ...]) -> None:
    """Charges for a method of a text, a list or a dictionary."""
    _check_numbers(arguments)
    extent, given = meter.extent(owner), meter.extent(arguments)
    meter.charge((extent + given) * _TIMES)
    if name in _REPEATING_METHODS | _FROM_THE_RIGHT:
        meter.charge(extent * sum(_weight(meter, each) for each in arguments))


def charge_formatting(meter: Meter, text: Any, values: Any) -> None:
    """Charges for ``text % values``.

    Raises:
        LimitError: It pads to more than any line has.
    """
    conversions = _CONVERSION.findall(str(text))
    if any("*" in each or _pads_far(each) for each in conversions):
        raise LimitError(f"it pads a text to more than {_WIDEST} characters")
    meter.charged(values, _TIMES * (1 + len(conversions)))
    meter.charged(text, 1)
    meter.charge(2 * _WIDEST * len(conversions))


def charge_field(meter: Meter, value: Any, spec: str) -> None:
    """Charges for a value in a format, as of ``"{:>10}".format(value)``."""
    if _pads_far(spec):
        raise LimitError(f"it pads a text to more than {_WIDEST} characters")
    meter.charged(value, _TIMES)
    meter.charge(_WIDEST)


def _add(meter: Meter, left: Any, right: Any) -> None:
    meter.charged(left)
    meter.charged(right)


def _multiply(meter: Meter, left: Any, right: Any) -> None:
    for value, times in ((left, right), (right, left)):
        if isinstance(times, int) and not isinstance(value, int | float):
            meter.charged(value, max(1, times))
            return
    if isinstance(left, int) and isinstance(right, int):
        _check_bits(left.bit_length() + right.bit_length())


def _power(meter: Meter, left: Any, right: Any) -> None:
    meter.charge(1)
    if isinstance(left, int) and isinstance(right, int):
        _check_bits(left.bit_length() * max(1, right))


def _remainder(meter: Meter, left: Any, right: Any) -> None:
    if isinstance(left, str):
        charge_formatting(meter, left, right)


OPERATORS: Final[Mapping[str, Callable[[Meter, Any, Any], None]]] = {
    "+": _add,
    "*": _multiply,
    "**": _power,
    "%": _remainder,
}
"""Operators that can make something large, by how they are written."""


def _check_bits(bits: int) -> None:
    if bits > _MOST_BITS:
        raise LimitError(f"it makes a number of more than {_MOST_BITS:,} bits")


def _check_numbers(arguments: tuple[Any, ...]) -> None:
    for each in arguments:
        if isinstance(each, int) and abs(each) > _LARGEST_NUMBER:
            raise LimitError(f"it gives a number above {_LARGEST_NUMBER:,} to a filter or a method")


def _weight(meter: Meter, argument: Any) -> int:
    """How often, or how long, an argument has something repeated."""
    if isinstance(argument, int):
        return abs(argument)
    return len(argument) if isinstance(argument, str) else meter.extent(argument)


def _pads_far(spec: str) -> bool:
    return any(int(digits[:9]) > _WIDEST for digits in re.findall(r"\d+", spec))
