"""A text on a terminal that goes on where its prompt ended, in lines that end between words."""

from __future__ import annotations

import os
import sys

from pipelines.common.cli.streams import terminal_width, write_text
from pipelines.common.escapes import plain

_SHOWN_PROMPT = 2000
"""Characters of a prompt that are shown, its last ones."""

_TAB = 8


class LineBreaker:
    """Puts newlines into a text that comes in pieces, so that no word reaches beyond a width.

    What it gives does not depend on how the text is cut. A word is held back until it has ended, or
    is as wide as a line.

    Args:
        width: Cells of a line; wide characters take two.
    """

    def __init__(self, width: int) -> None:
        self._width = max(1, width)
        self._column = 0
        self._word = ""
        self._goes_on = False  # the word that ends at the column, which was too wide to hold back

    def push(self, text: str) -> str:
        """Takes the next piece; what can be shown by now."""
        shown = []
        for part in text:
            if part not in " \t\n":
                self._word += part
                if _cells(self._word) >= self._width:
                    shown.append(self._placed())
                    self._goes_on = True
                continue
            shown.append(self.flush())
            if part == "\n":
                self._column = 0
            elif self._column >= self._width:  # the space that a line ends at
                self._column, part = 0, "\n"
            else:
                self._column += 1 if part == " " else _TAB - self._column % _TAB
            shown.append(part)
        return "".join(shown)

    def flush(self) -> str:
        """The word that is held back."""
        shown = self._placed()
        self._goes_on = False
        return shown

    def _placed(self) -> str:
        """What there is of a word, on a line of its own if it does not fit behind others."""
        word, self._word = self._word, ""
        cells = _cells(word)
        breaks = not self._goes_on and self._column > 0 and self._column + cells > self._width
        column = cells + (0 if breaks else self._column)
        self._column = (column - 1) % self._width + 1 if column else 0  # terminals break the rest
        return f"\n{word}" if breaks else word


class Continuation:
    """A text on stdout, which is a terminal.

    Args:
        prompt: What it continues, which is shown before it, dimmed, on stderr; empty for nothing.
    """

    def __init__(self, prompt: str) -> None:
        self._lines = LineBreaker(terminal_width())
        if prompt and sys.stderr.isatty():
            end = prompt if len(prompt) <= _SHOWN_PROMPT else f"…{prompt[-_SHOWN_PROMPT:]}"
            shown = self._lines.push(plain(end)) + self._lines.flush()
            print(_dimmed(shown), end="", file=sys.stderr, flush=True)

    def write(self, text: str) -> None:
        """Takes the next piece."""
        write_text(self._lines.push(plain(text)))

    def end(self) -> None:
        """Ends the text, with a newline."""
        write_text(f"{self._lines.flush()}\n")


def _cells(text: str) -> int:
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def _dimmed(text: str) -> str:
    """`text` in fainter letters, where a terminal can and may show them (no-color.org)."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return f"\x1b[2m{text}\x1b[22m"
