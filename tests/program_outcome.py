"""What came of running the program."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line that a failure writes."""
        (line,) = self.err.splitlines()
        assert line.startswith("run_pipeline: error: ")
        assert self.out == ""
        assert self.code in (1, 2)
        return line.removeprefix("run_pipeline: error: ")
