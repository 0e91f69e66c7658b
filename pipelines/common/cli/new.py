"""``new``: the start of a plugin, which runs as it is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.common.cli.console import ConsoleProgress
from pipelines.common.cli.context import registry_of
from pipelines.common.cli.options import Quiet, path_of
from pipelines.common.cli.streams import print_lines
from pipelines.common.registry.entries import unknown_name

if TYPE_CHECKING:
    from pipelines.common.registry.registry import Registry

_TRIED = {
    "pipeline": "run-pipeline {found}{name} --random-weights --prompt hi",
    "op": "run-pipeline {found}llama3 --random-weights --prompt hi --verbose",
    "task": "run-pipeline {found}{name} --random-weights --text hi",
    "target": "run-pipeline {found}llama3 --random-weights --target {name} --prompt hi",
}
"""The command that tries each kind."""


def new(
    ctx: typer.Context,
    kind: Annotated[str, typer.Argument(metavar="KIND", help="pipeline, op, target or task.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it is to be called.")],
    into: Annotated[
        Path,
        typer.Option(
            parser=path_of("--into"), metavar="DIR", help="The folder that its own is made in."
        ),
    ] = Path(),
    package: Annotated[
        bool,
        typer.Option("--package", help="A distribution to install, in place of a folder."),
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Begin a plugin: a pipeline, an op package, a target or a task.

    What is written runs at once, on random weights, and has a test.
    """
    from pipelines.common.scaffold.write import KINDS, Start

    if kind not in KINDS:
        raise unknown_name("kind of plugin", kind, KINDS)
    start = Start(kind, name, into, package)
    found = "" if package else f"--plugin-path {start.folder} "
    command = _TRIED[kind].format(found=found, name=name)
    registry = registry_of(ctx)
    start.check({*_taken(kind, registry), *registry.commands})
    print_lines(*map(str, start.write(command)))
    progress = ConsoleProgress(quiet=quiet)
    if package:
        progress.notice(f"install it with: pip install -e {start.folder}")
    progress.notice(f"try it with: {command}")
    progress.notice(f"test it with: pytest {start.folder}")


def _taken(kind: str, registry: Registry) -> set[str]:
    """Names that a new one of a kind cannot have."""
    if kind == "op":
        return set(registry.op_packages)
    if kind == "target":
        return {"auto", *registry.targets}
    return set(registry.pipelines) | (set(registry.tasks) if kind == "task" else set())
