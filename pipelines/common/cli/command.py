"""What all commands have in common."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand

from pipelines.common.cli.streams import taken_back


class Command(TyperCommand):
    """A command; what is printed while it runs, by whatever code, goes to stderr."""

    def invoke(self, ctx: Any) -> Any:
        """Runs the command."""
        with taken_back():
            return super().invoke(ctx)
