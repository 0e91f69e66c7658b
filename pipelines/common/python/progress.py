"""What a Python program is told while a model is loaded: nothing, unless it asks for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from pipelines.common.errors import ParameterError
from pipelines.common.escapes import printable
from pipelines.common.progress import Progress

Asked: TypeAlias = bool | Callable[[str], object] | None
"""None or False for nothing, True for a bar on stderr or in a notebook, or what is called with
each line."""


class Kept(Progress):
    """Says nothing, and keeps what the user should know.

    Attributes:
        notices: It, each line once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.notices: list[str] = []

    def notice(self, message: str) -> None:
        """Keeps a line."""
        if message not in self.notices:
            self.notices.append(message)
            self.tell(message)

    def tell(self, message: str) -> None:
        """Passes a line on; there is nobody here."""


class Called(Kept):
    """Calls a function with each line: what is being done, and what the user should know.

    Args:
        function: The function.
    """

    def __init__(self, function: Callable[[str], object]) -> None:
        super().__init__()
        self._function = function

    def tell(self, message: str) -> None:
        """Calls the function."""
        self._function(message)

    @contextmanager
    def shown(self, description: str) -> Iterator[None]:
        """Calls the function with what begins."""
        self._function(description)
        yield


class Bar(Kept):
    """Shows what is being done and for how long, and prints what the user should know."""

    def __init__(self) -> None:
        from rich.console import Console

        super().__init__()
        self._console = Console(stderr=True)
        self._showing = False

    def tell(self, message: str) -> None:
        """Prints a line."""
        self._console.print(printable(message), markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def shown(self, description: str) -> Iterator[None]:
        """Shows a bar while something goes on; of nested ones the outermost is shown."""
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bars
        from rich.text import Text

        seen = self._console.is_terminal or self._console.is_jupyter
        if self._showing or not seen:
            yield
            return
        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        self._showing = True
        try:
            with Bars(*columns, console=self._console, transient=True) as bars:
                bars.add_task(Text(printable(description)).markup, total=None)
                yield
        finally:
            self._showing = False


def progress_of(asked: Asked) -> Kept:
    """The progress that was asked for.

    Raises:
        ParameterError: It is something else.
    """
    if asked is None or asked is False:
        return Kept()
    if asked is True:
        return Bar()
    if not callable(asked):
        raise ParameterError("progress", asked, "True, or a function that takes a text")
    return Called(asked)
