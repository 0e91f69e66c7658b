"""Writes commands.md, of the same records and options that ``--help`` shows.

python docs/command_reference.py
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from typer.core import TyperGroup
from typer.main import get_command

from pipelines.common.cli.app import app
from pipelines.common.cli.context import registry_of
from pipelines.common.cli.grouping import group_of
from pipelines.common.registry.plugins import Level

PROGRAM = "run-pipeline"
FILE = Path(__file__).with_name("commands.md")

_BEGINNING = """\
# Commands

<!-- Written by `python docs/command_reference.py`: changes here are lost. -->

    run-pipeline [OPTIONS] COMMAND ...

`run-pipeline COMMAND --help` shows the same of one command. From a checkout,
`python run_pipeline.py` and `python -m pipelines` are the same program. Options of the program
stand before the command:
"""

_TASKS = {
    "generate": (
        "Pipelines",
        "The commands of pipelines continue prompts, and have the same options:",
    ),
    "embed": ("Pipelines that make vectors", "Those that make vectors of texts have others:"),
}


class Row(NamedTuple):
    """What ``--help`` says of an option or argument.

    Attributes:
        name: Its name in Python.
        spelled: How it is typed, with what it takes.
        meaning: What it is for.
        default: What it is without being given; empty where nothing is said.
        required: Whether it has to be given.
    """

    name: str
    spelled: str
    meaning: str
    default: str
    required: bool

    @property
    def called(self) -> str:
        """What it is called, by its long name."""
        return self.spelled.split(", ")[-1].split(" ")[0]


def reference() -> str:
    """The document."""
    program = get_command(app)
    assert isinstance(program, TyperGroup)
    with program.make_context(PROGRAM, ["list"]) as ctx:
        return "\n".join([*_document(program, ctx), ""])


def _document(program: TyperGroup, ctx: Any) -> Iterator[str]:
    registry = registry_of(ctx)
    pipelines = {
        n: e for n, e in registry.pipelines.items() if e.plugin.found.level <= Level.SHIPPED
    }
    commands = [n for n, e in registry.commands.items() if e.plugin.found.level <= Level.SHIPPED]
    yield _BEGINNING
    yield from _table(_rows(program, ctx))
    usual: list[Row] = []
    for task, (title, introduction) in _TASKS.items():
        names = [name for name, entry in pipelines.items() if entry.record.task == task]
        yield from ("", f"## {title}", "", introduction, "", "| command | |", "|---|---|")
        yield from (f"| `{name}` | {pipelines[name].record.summary} |" for name in names)
        command = program.get_command(ctx, names[0])
        yield from _options(command, ctx, usual)
        usual = usual or _rows(command, ctx)
    for name in commands:
        yield from _command(program.get_command(ctx, name), ctx, name, usual)


def _command(command: Any, parent: Any, name: str, usual: list[Row]) -> Iterator[str]:
    """The section of a command, and of those in it."""
    if isinstance(command, TyperGroup):
        for inner in command.list_commands(parent):
            yield from _command(
                command.get_command(parent, inner), parent, f"{name} {inner}", usual
            )
        return
    with _context(command, parent) as ctx:
        usage = " ".join(command.collect_usage_pieces(ctx))
    yield from ("", f"## {name}", "", f"    {PROGRAM} {name} {usage}", "")
    yield "\n\n".join(" ".join(part.split()) for part in (command.help or "").split("\n\n"))
    yield from _options(command, parent, usual)


def _options(command: Any, parent: Any, usual: list[Row]) -> Iterator[str]:
    """Its options in groups, but for those that it has in common with the first pipeline."""
    rows = _rows(command, parent)
    own = [row for row in rows if row not in usual]
    if shared := [row for row in rows if row in usual]:
        left_out = [row for row in usual if row not in rows]
        link = "[a pipeline](#pipelines)"
        if len(left_out) < len(shared):
            yield from ("", f"All options of {link} but {_named(left_out)}.")
        else:
            yield from ("", f"As of {link}: {_named(shared)}.")
    for row in own:
        if not row.spelled.startswith("-"):
            yield from ("", f"`{row.called}`: {row.meaning}")
    options = [row for row in own if row.spelled.startswith("-")]
    groups = {"": {row.name for row in options}} if usual else dict(_groups(command))
    for title, names in groups.items():
        inside = [row for row in options if row.name in names]
        if inside and title:
            yield from ("", f"### {title}")
        if inside:
            yield ""
            yield from _table(inside)


def _groups(command: Any) -> Iterator[tuple[str, set[str]]]:
    """The groups of a command's options: what each is about, and the names in it."""
    grouped: set[str] = set()
    for parameter in inspect.signature(
        inspect.unwrap(command.callback), eval_str=True
    ).parameters.values():
        kind, _ = group_of(parameter.annotation)
        if kind is not None:
            names = set(kind.__dataclass_fields__)
            grouped |= names
            yield re.split(r"[.;]", kind.__doc__)[0], names
    yield "Others", {parameter.name for parameter in command.params} - grouped


def _named(rows: Iterable[Row]) -> str:
    return ", ".join(f"`{row.called}`" for row in rows)


def _table(rows: Iterable[Row]) -> Iterator[str]:
    """A table of options; of their defaults, where any has one."""
    lines = [["option", "default", ""], ["---", "---", "---"]]
    for row in rows:
        default = f"`{row.default}`" if row.default else "required" if row.required else ""
        lines.append([f"`{row.spelled}`", default, row.meaning])
    has_defaults = any(default for _, default, _ in lines[2:])
    for option, default, meaning in lines:
        cells = [option, default, meaning] if has_defaults else [option, meaning]
        yield "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def _rows(command: Any, parent: Any) -> list[Row]:
    """What ``--help`` shows of its options and arguments."""
    with _context(command, parent) as ctx:
        shown = [(each.name, each.get_help_record(ctx)) for each in command.params]
    return [_row(name, *record) for name, record in shown if record is not None]


def _row(name: str, spelled: str, text: str) -> Row:
    meaning, _, extra = text.partition("  [")
    notes = extra.removesuffix("]").split("; ") if extra else []
    default = "".join(n.removeprefix("default: ") for n in notes if n.startswith("default: "))
    others = [n for n in notes if n != "required" and not n.startswith("default: ")]
    meaning = f"{meaning} [{', '.join(others)}]" if others else meaning
    return Row(name, spelled, meaning, default, "required" in notes)


def _context(command: Any, parent: Any) -> Any:
    """The command's own context, without arguments and nothing run."""
    return command.make_context(command.name, [], parent=parent, resilient_parsing=True)


if __name__ == "__main__":
    FILE.write_text(reference(), encoding="utf-8")
