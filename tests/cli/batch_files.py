"""Inputs and outputs of batch runs."""

from __future__ import annotations

import json
from pathlib import Path

VARYING = {"timings", "shared_prompt_tokens"}
"""What of a record depends on the rows that were computed beside it."""


def write_rows(path: Path, *rows: str | dict | bytes) -> Path:
    """Writes an input of prompts, of fields, and of lines as they are."""
    fields = [{"prompt": row} if isinstance(row, str) else row for row in rows]
    lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in fields]
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path


def records(text: str) -> list[dict]:
    """The records of an output, each of which ends with a newline."""
    assert not text or text.endswith("\n")
    return [json.loads(line) for line in text.split("\n")[:-1]]


def outcomes(path: Path) -> list[dict]:
    """What the records of an output say that only depends on their rows, by line."""
    return sorted(
        (
            {name: value for name, value in record.items() if name not in VARYING}
            for record in records(path.read_text())
        ),
        key=lambda record: record["line"],
    )


def manifest(output: Path) -> Path:
    """Where the manifest of an output is."""
    return output.with_name(f"{output.name}.manifest.json")
