"""Numbers and lines for people."""

from __future__ import annotations

import re


def human_size(size: int) -> str:
    """A number of bytes in the largest binary unit that leaves it at 1 or more."""
    value, units = float(size), ["B", "KiB", "MiB", "GiB", "TiB"]
    while value >= 1024 and len(units) > 1:
        value /= 1024
        units.pop(0)
    digits = 0 if value >= 100 or units[0] == "B" else 1
    return f"{value:.{digits}f} {units[0]}"


def human_count(count: int) -> str:
    """A number in thousands, millions or billions."""
    for unit, name in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
        if count >= unit:
            return f"{count / unit:.2f} {name}"
    return str(count)


def human_duration(seconds: float) -> str:
    """A time in its two largest units: ``1 h 05 min``, ``2 min 30 s``, ``8.2 s``."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def folded(line: str, width: int) -> list[str]:
    """A line, mostly of a table, in lines that are no wider than their longest word needs.

    What goes on stands below the column that it is of, if there is room for it.
    """
    if len(line) <= width:
        return [line]
    import textwrap

    columns = (gap.end() for gap in re.finditer(r"^ +|(?<=\S) {2,}", line))
    indent = max((column for column in columns if column <= width * 2 // 3), default=0)
    return textwrap.wrap(
        line,
        width,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
