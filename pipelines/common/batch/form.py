"""What a form of input and output has to do; each is a file of `pipelines.common.batch.forms`."""

from __future__ import annotations

from typing import Any, Protocol

from pipelines.common.batch.row import BadRow, Row
from pipelines.common.requests.text import Defaults, Result


class Form(Protocol):
    """Reads rows from lines and makes records of what became of them.

    Attributes:
        name: What the manifest calls it.
    """

    name: str

    def parse(self, text: str, line: int, index: int, defaults: Defaults) -> Row | BadRow:
        """Reads one line.

        Args:
            text: The line without its end, not blank.
            line: Its number, from 1.
            index: How many rows stand before it: its seed is the default one plus that, unless the
                row gives one.
            defaults: What holds for what the row does not say.
        """

    def record(self, row: Row, result: Result) -> dict[str, Any]:
        """What is written for a row that was run; JSON values only."""

    def failure(self, row: BadRow) -> dict[str, Any]:
        """What is written for a row that could not be run."""

    def recorded(self, record: Any) -> tuple[int, bool] | None:
        """The line and the success of the row that a record tells of.

        Args:
            record: Any JSON value, as read back from an output.

        Returns:
            The line's number and whether the row was run; None if it is no record of this form.
        """
