"""What all commands have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from pipelines.common.cli.streams import taken_back

if TYPE_CHECKING:
    from pipelines.common.registry.hookspecs import CommandRecord, PipelineRecord


class Command(TyperCommand):
    """A command; what is printed while it runs, by whatever code, goes to stderr."""

    def invoke(self, ctx: Any) -> Any:
        """Runs the command."""
        with taken_back():
            return super().invoke(ctx)


def pipeline_command(record: PipelineRecord, function: Callable[..., None]) -> Command:
    """The sub-command of a pipeline.

    Args:
        record: The pipeline's.
        function: What it does, as typer takes it.
    """
    app = _program()
    app.command(record.name, help=record.summary, cls=Command)(function)
    made = get_command(app)
    assert isinstance(made, Command)
    return made


def own_command(record: CommandRecord, what: Callable[..., Any]) -> Any:
    """A command that is no pipeline's, or a group of them.

    Args:
        record: Its record.
        what: What the record's `command` stands for.
    """
    app = _program()
    app.callback()(_nothing)  # so that it is a group, with one command
    if isinstance(what, typer.Typer):
        _take_back(what)
        app.add_typer(what, name=record.name)
    else:
        summary = None if what.__doc__ else record.summary
        app.command(record.name, help=summary, cls=Command)(what)
    group = get_command(app)
    assert isinstance(group, TyperGroup)
    return group.commands[record.name]


def _program() -> typer.Typer:
    return typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


def _nothing() -> None:
    """What the group does that a command is made in."""


def _take_back(app: typer.Typer) -> None:
    """Makes the commands of an app such as take stdout back."""
    for command in app.registered_commands:
        command.cls = Command
    for group in app.registered_groups:
        if group.typer_instance is not None:
            _take_back(group.typer_instance)
