"""What a form of input and output has to do; each is a file of `pipelines.common.batch.forms`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from pipelines.common.batch.row import BadRow, R, Row

D = TypeVar("D")
D_contra = TypeVar("D_contra", contravariant=True)
T_contra = TypeVar("T_contra", contravariant=True)


class Form(Protocol[D_contra, R, T_contra]):
    """Reads rows from lines and makes records of what became of them.

    A task has its own type of what holds for rows that say nothing else, of what a row asks for,
    and of what comes of it.

    Attributes:
        name: What the manifest calls it.
    """

    name: str

    def parse(self, text: str, line: int, index: int, defaults: D_contra) -> Row[R] | BadRow:
        """Reads one line.

        Args:
            text: The line without its end, not blank.
            line: Its number, from 1.
            index: How many rows stand before it: its seed is the default one plus that, unless the
                row gives one.
            defaults: What holds for what the row does not say.
        """

    def record(self, row: Row[R], result: T_contra) -> dict[str, Any]:
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


@dataclass(frozen=True)
class Forms(Generic[D, R, T_contra]):
    """The forms of a task.

    Attributes:
        field: What the one text of a row is called in its object: ``prompt``.
        lines: A text a line.
        rows: An object a line.
        requests: A request of the OpenAI Batch API a line.
    """

    field: str
    lines: Form[D, R, T_contra]
    rows: Form[D, R, T_contra]
    requests: Form[D, R, T_contra]
