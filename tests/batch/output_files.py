"""Outputs of a form of the tests' own, made, gone on with and refused."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from pipelines.common.batch.output import OutputFile
from pipelines.common.errors import BatchError

SETTINGS = {"model": "a.gguf", "temperature": 0.5}


class LineForm:
    """Records are objects with a line, and an error if the row failed."""

    name = "line"

    def recorded(self, record: Any) -> tuple[int, bool] | None:
        if isinstance(record, dict) and isinstance(record.get("line"), int):
            return record["line"], "error" not in record
        return None

    parse = record = failure = None  # an output only asks what a record tells


FORM: Any = LineForm()


def record_of(line: int) -> dict[str, Any]:
    return {"line": line, "text": f"ü\n\x00 {line} 🦙"}


def resume(path: Path) -> OutputFile:
    return OutputFile.resume(path, SETTINGS, FORM, range(1, 1 << 20))


def fill(path: Path, *lines: int) -> bytes:
    """Makes an output with records of `lines` and returns what it holds."""
    with closing(OutputFile.create(path, SETTINGS)) as output:
        for line in lines:
            output.write(record_of(line))
    return path.read_bytes()


def refusal(path: Path) -> str:
    """What is wrong with an output, in which nothing is changed."""
    before = path.read_bytes()
    with pytest.raises(BatchError) as caught:
        resume(path)
    assert path.read_bytes() == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


def records(path: Path) -> list[Any]:
    content = path.read_bytes()
    assert content == b"" or content.endswith(b"\n")
    return [json.loads(line) for line in content.split(b"\n")[:-1]]
