"""What all commands have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand
from typer.main import get_command

from pipelines.common.cli.streams import taken_back

if TYPE_CHECKING:
    from pipelines.common.registry.hookspecs import PipelineRecord


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
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command(record.name, help=record.summary, cls=Command)(function)
    made = get_command(app)
    assert isinstance(made, Command)
    return made
