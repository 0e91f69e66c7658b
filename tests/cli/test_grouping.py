"""Options in groups: what typer sees, and what the command gets."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Annotated

from pipelines.common.cli.grouping import Without, grouped_options


@dataclass(frozen=True)
class Size:
    width: Annotated[int, "wide"] = 1
    depth: int = 2
    height: int = 3


def test_a_group_is_options_to_typer_and_a_record_to_the_command():
    got = []

    @grouped_options
    def command(name: str, size: Annotated[Size, Without("depth")], *, quiet: bool = False) -> None:
        got.append((name, size, quiet))

    parameters = inspect.signature(command).parameters
    assert list(parameters) == ["name", "width", "height", "quiet"]
    assert parameters["width"].annotation == Annotated[int, "wide"]
    assert parameters["height"].default == 3
    command(name="a", width=5, height=6, quiet=True)
    assert got == [("a", Size(width=5, height=6), True)]
