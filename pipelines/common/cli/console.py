"""What is written to stderr: notices, details, and a spinner when a person is looking."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from pipelines.common.cli.wording import worded
from pipelines.common.escapes import printable, printable_message
from pipelines.common.progress import Progress

PROGRAM = "run_pipeline"

T = TypeVar("T")

_SPINNER_DELAY_S = 0.5
_TOLD_S = 10.0
_LONGEST = 4000
"""Characters of a message; what came from a file may be of any length."""


def say(message: str) -> None:
    """Writes one line to stderr, under the program's name, whatever the message holds.

    Settings that it names are told by their options.
    """
    print(f"{PROGRAM}: {printable_message(worded(message), _LONGEST)}", file=sys.stderr, flush=True)


class ConsoleProgress(Progress):
    """Shows progress on stderr.

    Attributes:
        quiet: Whether it shows none.
    """

    def __init__(self, *, quiet: bool = False, verbose: bool = False) -> None:
        super().__init__(verbose=verbose)
        self.quiet = quiet
        self._spinning = False
        self._said: set[str] = set()

    def notice(self, message: str) -> None:
        """Writes `message`, unless quiet or said before, as by each user of a broken cache."""
        if not self.quiet and message not in self._said:
            self._said.add(message)
            say(message)

    def notice_again(self, message: str) -> None:
        """Writes `message`, unless quiet, also where it was said before."""
        if not self.quiet:
            say(message)

    def detail(self, message: str) -> None:
        """Writes `message` if verbose."""
        if self.verbose:
            say(message)

    def told(self, parts: Sequence[T], so_far: Callable[[], str]) -> Iterator[T]:
        """The parts of what takes long; now and then a line tells how far that has come.

        Args:
            parts: Each is done when the next one is asked for.
            so_far: Says what they are, and what has come of those that are done.
        """
        told = time.monotonic()
        for done, part in enumerate(parts, 1):
            yield part
            if time.monotonic() - told >= _TOLD_S and done < len(parts):
                told = time.monotonic()
                self.notice_again(f"{done:,} of {len(parts):,} {so_far()}")

    @contextmanager
    def shown(self, description: str) -> Iterator[None]:
        """Turns a spinner beside `description` if it goes on for long and stderr is a terminal.

        Of nested ones the outermost is shown.
        """
        if self.quiet or self._spinning or not sys.stderr.isatty():
            yield
            return
        done = threading.Event()
        spinner = threading.Thread(target=_spin, args=(description, done), daemon=True)
        self._spinning = True
        try:
            spinner.start()
            yield
        finally:
            done.set()
            if spinner.ident is not None:  # it was started
                spinner.join()
            self._spinning = False

    @contextmanager
    def counted(self, description: str, total: int) -> Iterator[Callable[[int], None]]:
        """Moves a bar if stderr is a terminal."""
        if self.quiet or not sys.stderr.isatty():
            yield lambda _: None
            return
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(binary_units=True),
            TimeRemainingColumn(),
            TextColumn("left"),
        )
        with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(printable(description), total=total)
            yield lambda done: bar.advance(task, done)


def _spin(description: str, done: threading.Event) -> None:
    if done.wait(_SPINNER_DELAY_S):
        return
    from rich.console import Console
    from rich.text import Text

    with Console(stderr=True).status(Text(printable(description))):
        done.wait()
