"""One row of a batch: what its line asks for, or what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeAlias, TypeVar

RowId: TypeAlias = str | int | None

R = TypeVar("R")


@dataclass(frozen=True)
class Row(Generic[R]):
    """A row that can be run, as far as one can tell without a tokenizer.

    Attributes:
        line: Its line in the input, from 1.
        id: What the input calls it; None if it has no name.
        request: What it asks for.
        extra: Fields that have no effect and go into the record as they are.
        unknown: Names of fields that nobody knows here.
    """

    line: int
    id: RowId
    request: R
    extra: Mapping[str, Any] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()

    def failed(self, error: str) -> BadRow:
        """The same row, which cannot be run after all."""
        return BadRow(self.line, self.id, error, self.extra, self.unknown)


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be run.

    Attributes:
        line: Its line in the input, from 1.
        id: What the input calls it, if that much can be read.
        error: What is wrong, in one line that does not name the line's number.
        extra: See `Row.extra`.
        unknown: See `Row.unknown`.
    """

    line: int
    id: RowId
    error: str
    extra: Mapping[str, Any] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()
