"""What people see of a batch run: how far it has come, and on a terminal its texts."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import contextmanager
from typing import Any

from pipelines.common.batch.figures import Figures
from pipelines.common.cli.console import say
from pipelines.common.cli.formatting import human_duration
from pipelines.common.cli.streams import write_text

_LINE_S = 10.0
_MOVE_S = 0.2


class TextDisplay:
    """Implements `pipelines.common.batch.output.Output` for a person who gave a few prompts.

    The texts go to stdout, and what they belong to goes to stderr.
    """

    done: Set[int] = frozenset()
    failed = 0

    def write(self, record: Mapping[str, Any]) -> None:
        """Shows the text or the error of a row."""
        if record["error"] is not None:
            say(f"prompt {record['error'].removeprefix('line ')}")
            return
        say(f"prompt {record['line']}:")
        write_text(f"{record['text']}\n")

    def close(self) -> None:
        """Does nothing: what was written has been shown."""


@contextmanager
def rows_display(
    figures: Figures, *, visible: bool, alone: bool
) -> Iterator[Callable[[Figures], None]]:
    """Shows progress on stderr: a moving bar on a terminal, elsewhere a line now and then.

    Args:
        figures: Where the run begins.
        visible: Whether anything is shown.
        alone: Whether nothing else is written to the terminal.

    Yields:
        What is to be called with the figures again and again.
    """
    begun = figures.done
    if not visible or figures.done == figures.rows:
        yield lambda _: None
    elif alone and sys.stderr.isatty():
        with _bar(figures) as move:
            yield _now_and_then(_MOVE_S, move)
    else:
        yield _now_and_then(_LINE_S, lambda figures: say(_line(figures, begun)))


def _now_and_then(seconds: float, show: Callable[[Figures], None]) -> Callable[[Figures], None]:
    last = time.monotonic()

    def offer(figures: Figures) -> None:
        nonlocal last
        if time.monotonic() - last >= seconds:
            last = time.monotonic()
            show(figures)

    return offer


def _line(figures: Figures, begun: int) -> str:
    parts = [f"{figures.done:,} of {figures.rows:,} rows{_failed(figures)}", _rate(figures)]
    if figures.done > begun:
        left = figures.seconds / (figures.done - begun) * (figures.rows - figures.done)
        parts.append(f"{human_duration(left)} left")
    return ", ".join(parts)


@contextmanager
def _bar(figures: Figures) -> Iterator[Callable[[Figures], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        BarColumn(),
        TextColumn("{task.completed:,.0f} of {task.total:,.0f} rows{task.fields[told]}"),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=figures.rows, completed=figures.done, told="")

        def move(figures: Figures) -> None:
            told = f"{_failed(figures)}, {_rate(figures)}"
            bar.update(task, completed=figures.done, told=told)

        yield move


def _failed(figures: Figures) -> str:
    return f" ({figures.failed:,} failed)" if figures.failed else ""


def _rate(figures: Figures) -> str:
    tokens = figures.generated_tokens or figures.prompt_tokens  # an encoder generates none
    return f"{tokens / figures.seconds:,.0f} tok/s"
