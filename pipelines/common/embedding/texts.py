"""Texts from files and pipes."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

from pipelines.common.errors import PromptError
from pipelines.common.files import open_input
from pipelines.common.requests.fields import check_text, load_object
from pipelines.common.requests.values import RequestError, shown
from pipelines.common.utf8 import text_of

_MAX_LINE_BYTES = 16 << 20

T = TypeVar("T")


@dataclass(frozen=True)
class Text:
    """One text.

    Attributes:
        line: Where it is in the input, counted from 1.
        id: What its row calls it; None if it has no name.
        text: The text.
    """

    line: int
    id: str | int | None
    text: str


@dataclass(frozen=True)
class BadText:
    """What cannot be taken for a text, or cannot be encoded.

    Attributes:
        line: See `Text`.
        id: See `Text`.
        error: Why, in one line.
    """

    line: int
    id: str | int | None
    error: str


def of_file(path: Path) -> Iterator[Text | BadText]:
    """The texts of a file, as they are needed; see `of_stream`.

    Raises:
        PromptError: The file cannot be read.
    """
    try:
        with open_input(path) as stream:
            yield from of_stream(stream)
    except OSError as error:
        raise PromptError(
            f"cannot read texts from {path}: {error.strerror}; expected a file or a pipe"
        ) from error


def of_stream(stream: BinaryIO) -> Iterator[Text | BadText]:
    """The texts of a stream, as they are needed.

    Lines that begin with a brace are JSON objects with a field ``text``, and maybe an ``id``;
    others are texts themselves. Empty lines are none.

    Raises:
        PromptError: A line has no end.
    """
    number = 0
    while line := stream.readline(_MAX_LINE_BYTES + 1):
        number += 1
        if len(line) > _MAX_LINE_BYTES:
            raise PromptError(f"line {number} has more than {_MAX_LINE_BYTES >> 20} MiB")
        try:
            text = text_of(line).rstrip("\n")
        except ValueError as error:
            yield BadText(number, None, str(error))
            continue
        if text.lstrip().startswith("{"):
            yield _of_object(text, number)
        elif text.strip():
            yield Text(number, None, text)


def in_batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Items, so many at a time."""
    left = iter(items)
    while batch := list(itertools.islice(left, size)):
        yield batch


def _of_object(line: str, number: int) -> Text | BadText:
    id = None
    try:
        fields = load_object(line, "the row")
        id = fields.get("id")
        if id is not None and (isinstance(id, bool) or not isinstance(id, str | int)):
            wrong, id = id, None
            raise RequestError(f"'id' is {shown(wrong)}; expected a text or an integer")
        text = fields.get("text")
        if not isinstance(text, str) or not text:
            raise RequestError(f"'text' is {shown(text)}; expected a text that is not empty")
        check_text(text)
    except RequestError as error:
        return BadText(number, id, str(error))
    return Text(number, id, text)
