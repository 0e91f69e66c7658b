"""What becomes of a check."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias
from unittest import SkipTest

from pipelines.common.errors import PipelineError, one_line

Outcome: TypeAlias = Literal["ok", "failed", "skipped"]


class CheckFailedError(AssertionError):
    """Something is not as it has to be; the message is one line that says what."""


class CheckSkippedError(SkipTest):
    """Something cannot be checked here; test runners take it for a test that is skipped."""


@dataclass(frozen=True)
class Check:
    """One thing that is checked.

    Attributes:
        name: What it is called.
        call: Checks it; returns what has been found out, in a few words. It raises
            `CheckFailedError` or `CheckSkippedError`, or whatever the code under test raises.
    """

    name: str
    call: Callable[[], str]

    def __str__(self) -> str:
        return self.name

    def __call__(self) -> str:
        """Checks it; see `call`."""
        return self.call()

    def result(self, *, strict: bool = False) -> Checked:
        """Checks it, and says what came of it.

        Args:
            strict: Whether an error in the code under test comes through.
        """
        try:
            return Checked(self.name, "ok", self())
        except CheckSkippedError as error:
            return Checked(self.name, "skipped", str(error))
        except (CheckFailedError, PipelineError) as error:
            return Checked(self.name, "failed", str(error))
        # The code of a plugin may raise anything, and all of it is what was to be found out.
        except Exception as error:
            if strict:
                raise
            return Checked(self.name, "failed", one_line(error))


@dataclass(frozen=True)
class Checked:
    """What came of a check.

    Attributes:
        check: The check's name.
        outcome: ``ok``, ``failed`` or ``skipped``.
        why: What has been found out, in one line.
    """

    check: str
    outcome: Outcome
    why: str


def results(checks: Iterable[Check], *, strict: bool = False) -> Iterator[Checked]:
    """Checks one after the other; see `Check.result`."""
    return (check.result(strict=strict) for check in checks)


def require(holds: object, why: str) -> None:
    """Makes sure that something holds.

    Args:
        holds: Whether it does.
        why: What is wrong if it does not.

    Raises:
        CheckFailedError: It does not.
    """
    if not holds:
        raise CheckFailedError(why)
