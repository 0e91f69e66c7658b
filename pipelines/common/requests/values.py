"""What is said of a JSON value that is not as it has to be."""

from __future__ import annotations

import json
from typing import Any, Final

_MAX_SHOWN: Final = 60


class RequestError(Exception):
    """What is wrong with a request, in one line that names the field."""


def shown(value: Any) -> str:
    """A JSON value as it may stand in a message: one line, of bounded length."""
    text = json.dumps(value, ensure_ascii=False)
    if not text.isprintable():
        text = json.dumps(value)
    return shortened(text)


def shortened(text: str) -> str:
    """A text of bounded length."""
    return text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 3]}..."
