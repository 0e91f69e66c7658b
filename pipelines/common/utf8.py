"""Reads text as files have it: UTF-8, with a mark at its beginning or without, with any line ends.

That holds for a prompt in a file, for one that is piped, and for files of prompts. What these
functions refuse is a `ValueError` whose message follows the name that a caller puts before it.
"""

from __future__ import annotations

import codecs
from typing import Final

MARK: Final = codecs.BOM_UTF8
"""Bytes that a text may begin with, and that do not belong to it (RFC 3629, section 6)."""

NUL: Final = "has a NUL character; expected plain text in UTF-8"
"""What is wrong with binary data, and with UTF-16 that has no mark."""

# UTF-32's little-endian mark begins with that of UTF-16, so it stands first.
_FOREIGN_MARKS: Final = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)


def check_mark(start: bytes) -> None:
    """Makes sure that a text does not begin with the mark of another encoding.

    Raises:
        ValueError: It does.
    """
    for mark, encoding in _FOREIGN_MARKS:
        if start.startswith(mark):
            raise ValueError(
                f"is {encoding}; expected UTF-8: iconv -f {encoding} -t UTF-8 makes it so"
            )


def text_of(data: bytes) -> str:
    r"""The text of a whole file, whose lines end with ``\n``.

    Raises:
        ValueError: It is no plain text in UTF-8.
    """
    check_mark(data)
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"is not UTF-8 at byte {error.start}; convert it to UTF-8") from error
    if "\0" in text:
        raise ValueError(NUL)
    return text.removeprefix("\ufeff").replace("\r\n", "\n")
