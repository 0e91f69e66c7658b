"""The program: its options, its commands, and a command for every registered pipeline."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup
from typer.main import get_command

import pipelines
from pipelines.common.checkpoints.mapped import end_when_cut_short
from pipelines.common.cli import signals, streams
from pipelines.common.cli.command import own_command
from pipelines.common.cli.console import PROGRAM, say
from pipelines.common.cli.context import registry_of
from pipelines.common.cli.environment import explained
from pipelines.common.cli.options import path_of
from pipelines.common.errors import PipelineError, PluginError, ReaderGoneError
from pipelines.common.escapes import printable_lines
from pipelines.common.registry.entries import unknown_name
from pipelines.common.registry.environment import LEFT_OUT, PLUGIN_PATHS
from pipelines.common.registry.hookspecs import CommandRecord, PipelineRecord


class PipelineGroup(TyperGroup):
    """The commands of pipelines and the others, each made when it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names of all commands, the pipelines first."""
        return [*_records(ctx)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of that name, or None."""
        registry = registry_of(ctx)
        if cmd_name in registry.commands:
            record = registry.commands[cmd_name].record
            return own_command(record, registry.load_command(cmd_name))
        return registry.command(cmd_name) if cmd_name in registry.pipelines else None

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Writes a line for each command, of what their records say: none is imported for it."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, record.summary) for name, record in _records(ctx).items()])

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parses the driver's own options; shows the help if there is nothing to parse."""
        return super().parse_args(ctx, args or ["--help"])

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Finds the command that `args` begin with.

        Raises:
            UsageError: There is none; names the nearest and all that exist.
            PluginError: Several plugins claim it.
        """
        if not ctx.resilient_parsing and args[0] not in _records(ctx):
            for disabled in map(registry_of(ctx).disabled.get, ("pipeline", "command")):
                if disabled and args[0] in disabled:
                    raise PluginError(disabled[args[0]])
            raise unknown_name("pipeline or command", args[0], _records(ctx))
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Runs the command; what the machine does not give is told in one line."""
        with explained():
            return super().invoke(ctx)

    def get_help_option(self, ctx: Any) -> Any:
        """``--help``, handled after the (eager) ``--plugin-path``, whose pipelines it lists."""
        option = super().get_help_option(ctx)
        if option is not None:
            option.is_eager = False
        return option


def _records(ctx: Any) -> dict[str, PipelineRecord | CommandRecord]:
    """What has a command, by name; the pipelines first."""
    registry = registry_of(ctx)
    of_pipelines = {name: entry.record for name, entry in registry.pipelines.items()}
    return {**of_pipelines, **{name: entry.record for name, entry in registry.commands.items()}}


app = typer.Typer(
    name=PROGRAM,
    cls=PipelineGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    # Rich's help and tracebacks would take longer to import than the rest of the command line.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        streams.print_lines(f"{PROGRAM} {pipelines.__version__}")
        raise typer.Exit


@app.callback()
def driver(
    plugin_path: Annotated[
        list[Path] | None,
        typer.Option(
            parser=path_of("--plugin-path"),
            is_eager=True,
            metavar="PATH",
            help="A plugin (a .py file or a package folder), or a folder of plugins; repeatable."
            f"  [env var: {PLUGIN_PATHS}]",
        ),
    ] = None,
    no_plugin: Annotated[
        list[str] | None,
        typer.Option(
            is_eager=True,
            metavar="NAME",
            help=f"Leave a plugin out; repeatable.  [env var: {LEFT_OUT}]",
        ),
    ] = None,
    strict_plugins: Annotated[
        bool,
        typer.Option(
            "--strict-plugins",
            envvar="RUN_PIPELINE_STRICT_PLUGINS",
            is_eager=True,
            help="Fail, with a traceback, when a plugin fails to load or two claim one name.",
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


def run(*, own_process: bool) -> NoReturn:
    """Runs the program on the command line's arguments, and exits.

    Args:
        own_process: Whether what concerns a process as a whole is this program's to decide.
    """
    if own_process:
        signals.interrupt()
        sys.excepthook = _show_bug
        if not sys.warnoptions:  # where a developer asks for them
            warnings.simplefilter("ignore")
        end_when_cut_short(say)
    code = _exit_code()
    if own_process:
        signals.end_at_once()
    sys.exit(code)


def _exit_code() -> str | int | None:
    """Runs the program, tells people what went wrong, and what to exit with."""
    try:
        with streams.lent_for_help():
            get_command(app)(prog_name=Path(sys.argv[0]).name)
    except SystemExit as end:
        return signals.exit_code(end.code)
    except KeyboardInterrupt:
        return signals.exit_code(signals.INTERRUPTED)
    except ReaderGoneError as error:
        return error.exit_code
    except PipelineError as error:
        say(f"error: {error}")
        return error.exit_code
    except BaseException:
        if not signals.received():
            raise
        # Whatever was made of the interrupt on its way, as an import makes an ImportError.
        return signals.exit_code(signals.INTERRUPTED)
    return 0


def _show_bug(kind: type[BaseException], *error: Any) -> None:
    """Shows a traceback; none of an interrupt that came too late to be caught."""
    if kind is not KeyboardInterrupt:
        import traceback

        sys.stderr.write(printable_lines("".join(traceback.format_exception(kind, *error))))
