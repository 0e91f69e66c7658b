"""Text that did not come from this program, on its way to a terminal or into JSON.

A model's metadata, a manifest, a file's name or a generated text can hold what a terminal takes for
a command, what forges a line, or what turns the order of letters round.
"""

from __future__ import annotations

import json
import re
from typing import Any

# Control characters, those that separate lines, those that change direction, half surrogate pairs.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_UNSAFE_IN_TEXT = re.compile(_UNSAFE.pattern.replace("\x00-\x1f", "\x00-\x08\x0b-\x1f"))


def printable(text: str, limit: int | None = None) -> str:
    """`text` on one line, with escapes for what a terminal would not show as it is.

    Args:
        text: Any text.
        limit: Most characters of it that are shown; None for all.
    """
    if limit is not None and len(text) > limit:
        text = f"{text[: limit - 1]}…"
    return _UNSAFE.sub(_escaped, text)


def printable_message(text: str, limit: int) -> str:
    """`text` on one line like `printable`; what is too long is cut in its middle.

    Messages say at their end what to do.
    """
    if len(text) > limit:
        half = limit // 2
        text = f"{text[:half]}…{text[-half + 1 :]}"
    return printable(text)


def printable_lines(text: str) -> str:
    """`text` with such escapes, and with its newlines and tabs."""
    return _UNSAFE_IN_TEXT.sub(_escaped, text)


def plain(text: str) -> str:
    """`text` without what a terminal would not show as it is; newlines and tabs stay."""
    return _UNSAFE_IN_TEXT.sub("", text)


def json_line(value: Any) -> str:
    """`value` as JSON on one line, which is readable, and safe on a terminal as well."""
    text = json.dumps(value, ensure_ascii=False)
    return _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _escaped(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode()
