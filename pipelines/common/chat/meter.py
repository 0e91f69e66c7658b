"""What a template may do, counted: a bound that is the same on every machine.

Every value that a template makes costs its size, every turn of a loop and every call a fixed price;
when the allowance is used up, the template is refused. So neither time nor memory can grow beyond
the allowance, however loops, macros, strings and lists are nested in each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, TypeVar

from jinja2.utils import Namespace

T = TypeVar("T")

BASE: Final = 1 << 26
"""The allowance of every rendering, in units: a character, or what takes about as long."""

A_CHARACTER: Final = 64
"""What each character of the conversation adds: templates look at a content a dozen times."""

A_MESSAGE: Final = 1 << 16
"""What each message of it adds."""

TURN: Final = 256
"""The price of a turn of a loop, which takes some microseconds."""

CALL: Final = 1024
"""The price of a call and of a filter, beside what they do."""

_ELEMENT: Final = 64
_DEEPEST: Final = 32
_CONTAINERS: Final[tuple[type[Any], ...]] = (
    *(list, tuple, set, frozenset),
    *(type({}.keys()), type({}.values())),
)


class LimitError(Exception):
    """A template asks for more than it may have."""


class Meter:
    """What is left of an allowance.

    Attributes:
        left: Units.
    """

    def __init__(self) -> None:
        self.left = BASE

    def allow(self, characters: int, messages: int) -> None:
        """Starts afresh, for a conversation of so many characters in so many messages."""
        self.left = BASE + A_CHARACTER * characters + A_MESSAGE * messages

    def charge(self, units: int) -> None:
        """Takes units off.

        Raises:
            LimitError: There are not so many left.
        """
        self.left -= units
        if self.left < 0:
            raise LimitError("it takes too many steps, or makes too much text")

    def charged(self, value: T, times: int = 1) -> T:
        """A value, whose size has been taken off so many times."""
        self.charge(self.extent(value) * times)
        return value

    def counted(self, values: Iterable[T]) -> Iterator[T]:
        """The turns of a loop over values, each of which is charged for."""
        for value in values:
            self.charge(TURN)
            yield value

    def extent(self, value: Any) -> int:
        """The size of a value with all that is in it, what is shared counted each time.

        Raises:
            LimitError: It is beyond what is left, or too deep.
        """
        return self._extent(value, 0)

    def listed(self, values: Any) -> Any:
        """Values that come one after the other as a list, each charged for; others as they are."""
        if not isinstance(values, Iterator):
            return values
        return [self.charged(value) for value in self.counted(values)]

    def _extent(self, value: Any, depth: int) -> int:
        if isinstance(value, str):
            return _ELEMENT + len(value)
        if isinstance(value, int):
            return _ELEMENT + value.bit_length() // 8
        if isinstance(value, range):
            return _ELEMENT * (1 + len(value))
        if depth and isinstance(value, Namespace):  # which could hold what holds it
            raise LimitError("it puts a namespace into something else")
        if isinstance(value, dict | type({}.items())):
            pairs = value.items() if isinstance(value, dict) else value
            inner: Iterable[Any] = (each for pair in pairs for each in pair)
        elif isinstance(value, _CONTAINERS):
            inner = value
        else:
            return _ELEMENT
        if depth == _DEEPEST:
            raise LimitError(f"it nests values more than {_DEEPEST} deep")
        total = _ELEMENT
        for each in inner:
            total += self._extent(each, depth + 1)
            if total > self.left:
                raise LimitError("it takes too many steps, or makes too much text")
        return total
