"""JSON files that say what a model is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from pipelines.common.errors import ModelFileError, quoted
from pipelines.common.files import read_document

MAX_CONFIG_BYTES: Final = 4 << 20
"""Bytes that a file may have which says what a model is, and has no vocabulary in it."""


def read_object(path: Path, most: int) -> dict[str, Any]:
    """The JSON object in a file.

    Args:
        path: The file.
        most: Bytes that it may have.

    Raises:
        ModelFileError: There is none, it is too large, or is no JSON object.
    """
    try:
        content = read_document(path, most)
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read: {error.strerror}") from error
    return parse_object(content, str(path))


def parse_object(content: bytes, source: str) -> dict[str, Any]:
    """A JSON object whose names, and those of all objects in it, are different.

    Args:
        content: The text.
        source: Where it is from, for messages.

    Raises:
        ModelFileError: It is no such thing.
    """
    try:
        value = json.loads(content, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:  # the decoder's, and bytes that are no text
        raise ModelFileError(f"{source}: is not JSON: {quoted(str(error))}") from error
    if not isinstance(value, dict):
        raise ModelFileError(f"{source}: is JSON of something else, expected an object")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(n for n in names if names.count(n) > 1)!r} is there twice")
    return found
