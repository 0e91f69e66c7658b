"""How a text is shown while it comes: as it is, or as a reply that may be Markdown."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, Protocol

from pipelines.common.chat.thinking import Part, Thinking
from pipelines.common.cli.streams import terminal, write_text
from pipelines.common.escapes import plain

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live

_FENCES: Final = ("```", "~~~")
_SECONDS_BETWEEN: Final = 0.05


class Shown(Protocol):
    """Where a text goes."""

    def write(self, text: str) -> None:
        """Takes the next piece."""

    def end(self) -> None:
        """Ends the text."""


class PlainText:
    """As it is; on a terminal it ends with a newline.

    Args:
        ended: Whether it ends with one anywhere.
    """

    def __init__(self, *, ended: bool = False) -> None:
        self._ended = ended

    def write(self, text: str) -> None:
        """Takes the next piece."""
        write_text(text)

    def end(self) -> None:
        """Ends the text."""
        if self._ended or terminal() is not None:
            write_text("\n")


class PlainReply(PlainText):
    """A reply as it is, without its thoughts."""

    def __init__(self, prompt: str, *, ended: bool = False) -> None:
        super().__init__(ended=ended)
        self._thinking = Thinking(prompt)

    def write(self, text: str) -> None:
        """Takes the next piece."""
        self._write(self._thinking.push(text))

    def end(self) -> None:
        """Ends the reply."""
        self._write(self._thinking.flush())
        super().end()

    def _write(self, parts: list[Part]) -> None:
        for part in parts:
            if not part.thought:
                write_text(part.text)


class MarkdownReply:
    """A reply on a terminal: Markdown, drawn as it comes, and thoughts before it, dimmed.

    What is complete, a paragraph or a block of code, is drawn once and stays; the rest is drawn
    again whenever there is more of it.

    Args:
        prompt: What the reply follows, see `Thinking`.
        hide_thinking: Whether thoughts are left out.
    """

    def __init__(self, prompt: str, *, hide_thinking: bool) -> None:
        from rich.console import Console

        self._console = Console(file=terminal(), highlight=False)
        self._thinking = Thinking(prompt)
        self._hide_thinking = hide_thinking
        self._thought = False
        self._text = ""
        self._drawn_at = 0.0
        self._live: Live | None = None

    def write(self, text: str) -> None:
        """Takes the next piece."""
        for part in self._thinking.push(text):
            self._take(part)
        if time.monotonic() - self._drawn_at >= _SECONDS_BETWEEN:
            self._draw()

    def end(self) -> None:
        """Ends the reply."""
        for part in self._thinking.flush():
            self._take(part)
        self._settle()

    def _take(self, part: Part) -> None:
        if part.thought and self._hide_thinking:
            return
        if part.thought != self._thought:
            self._settle()
            self._thought = part.thought
        self._text += plain(part.text)

    def _draw(self) -> None:
        """Draws what is complete for good, and the rest for now."""
        self._drawn_at = time.monotonic()
        complete = _complete(self._text)
        if complete:
            self._stop()
            self._console.print(self._rendered(self._text[:complete]), "")
            self._text = self._text[complete:].lstrip("\n")
        if not self._text:
            return
        if self._live is None:
            from rich.live import Live

            self._live = Live(
                console=self._console,
                auto_refresh=False,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start()
            self._console.show_cursor()  # which nobody would do where the program is interrupted
        self._live.update(_end_of(self._rendered(self._text), self._console), refresh=True)

    def _settle(self) -> None:
        """Draws all that there is for good."""
        self._stop()
        if self._text.strip():
            self._console.print(self._rendered(self._text))
        self._text = ""

    def _stop(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _rendered(self, text: str) -> RenderableType:
        from rich.markdown import Markdown
        from rich.text import Text

        if self._thought:
            return Text(text.strip("\n"), style="dim")
        return Markdown(_with_breaks(text), hyperlinks=False)


def shown_reply(prompt: str, *, hide_thinking: bool, ended: bool = False) -> Shown:
    """Where a reply goes: Markdown on a terminal, text anywhere else.

    Args:
        prompt: What the reply follows.
        hide_thinking: Whether thoughts are left out.
        ended: Whether a text ends with a newline.
    """
    if terminal() is not None:
        return MarkdownReply(prompt, hide_thinking=hide_thinking)
    return PlainReply(prompt, ended=ended) if hide_thinking else PlainText(ended=ended)


def _complete(text: str) -> int:
    """Characters of the blocks that are complete: up to the last blank line outside of code."""
    end = at = 0
    for line, code in _lines(text):
        at += len(line)
        if not code and not line.strip() and line.endswith("\n"):
            end = at
    return end


def _with_breaks(text: str) -> str:
    """Markdown whose lines stay lines, as models mean them; those of a paragraph would flow."""
    return "".join(
        line if code else line.replace("\n", "  \n") for line, code in _lines(text.rstrip("\n"))
    )


def _lines(text: str) -> Iterator[tuple[str, bool]]:
    """The lines of a Markdown text, each with its end, and whether it is code between fences."""
    fence = ""
    for line in text.splitlines(keepends=True):
        start = line.strip()[:3]
        if fence and start == fence:
            fence = ""
        elif not fence and start in _FENCES:
            fence = start
        yield line, bool(fence) or start in _FENCES


def _end_of(rendered: RenderableType, console: Console) -> RenderableType:
    """As many of the last lines as the terminal can draw again."""
    from rich.segment import Segment, Segments

    lines = console.render_lines(rendered, pad=False)
    shown = lines[-max(1, console.height - 2) :]
    return Segments(
        segment
        for number, line in enumerate(shown)
        for segment in ([Segment.line()] if number else []) + line
    )
