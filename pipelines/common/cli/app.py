"""The program: its options, its commands, and a command for every registered pipeline."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import pipelines
from pipelines.common.cli import (
    cache,
    export,
    generate,
    graph,
    inspect,
    listing,
    ops,
    targets,
    tokenize,
    warm_cache,
)
from pipelines.common.cli.console import PROGRAM, say
from pipelines.common.cli.context import registry_of
from pipelines.common.errors import PipelineError
from pipelines.common.registry import unknown_name


class PipelineGroup(TyperGroup):
    """Commands of the driver itself, and one for each pipeline, made when it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names of all commands, the pipelines first."""
        return [*registry_of(ctx).pipelines, *super().list_commands(ctx)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of that name, or None."""
        own = super().get_command(ctx, cmd_name)
        if own is not None or cmd_name not in registry_of(ctx).pipelines:
            return own
        return generate.command(registry_of(ctx).pipelines[cmd_name].record)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parses the driver's own options; shows the help if there is nothing to parse."""
        return super().parse_args(ctx, args or ["--help"])

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Finds the command that `args` begin with.

        Raises:
            UsageError: There is none; names the nearest and all that exist.
        """
        if not ctx.resilient_parsing and self.get_command(ctx, args[0]) is None:
            raise unknown_name("pipeline or command", args[0], self.list_commands(ctx))
        return super().resolve_command(ctx, args)

    def get_help_option(self, ctx: Any) -> Any:
        """``--help``, handled after the (eager) ``--plugin-path``, whose pipelines it lists."""
        option = super().get_help_option(ctx)
        if option is not None:
            option.is_eager = False
        return option


app = typer.Typer(
    name=PROGRAM,
    cls=PipelineGroup,
    # Rich's help and tracebacks would take longer to import than the rest of the command line.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command("list")(listing.list_all)
app.command("targets")(targets.list_targets)
app.command("inspect")(inspect.inspect)
app.command("graph")(graph.show_graph)
app.command("export")(export.export)
app.command("warm-cache")(warm_cache.warm_cache)
app.command("tokenize")(tokenize.tokenize)
app.add_typer(cache.app, name="cache")
app.add_typer(ops.app, name="ops")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"{PROGRAM} {pipelines.__version__}")
        raise typer.Exit


@app.callback()
def driver(
    plugin_path: Annotated[
        list[Path] | None,
        typer.Option(
            envvar="RUN_PIPELINE_PLUGIN_PATH",
            is_eager=True,
            metavar="PATH",
            help="A plugin (a .py file or a package folder), or a folder of plugins; repeatable.",
        ),
    ] = None,
    strict_plugins: Annotated[
        bool,
        typer.Option(
            "--strict-plugins",
            envvar="RUN_PIPELINE_STRICT_PLUGINS",
            is_eager=True,
            help="Fail, with a traceback, when a plugin fails to load.",
        ),
    ] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Runs language models through pipelines, each of which is a command."""


def main() -> None:
    """Runs the program on the command line's arguments, and exits."""
    if sys.stderr is None:  # it is closed, and nothing of what goes there is wanted
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115 - until the program ends
    if isinstance(sys.stdout, io.TextIOWrapper):  # it is None when closed
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
    try:
        app(prog_name=Path(sys.argv[0]).name)
    except PipelineError as error:
        say(f"error: {error}")
        sys.exit(error.exit_code)
