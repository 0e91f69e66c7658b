"""The command line: one sub-command per pipeline, and commands about models and the cache."""

from __future__ import annotations

import gc
import sys
from typing import NoReturn


def main() -> None:
    """Runs the program on the command line's arguments, and exits."""
    own_process = sys.stdout is sys.__stdout__  # no test or program that captures it
    if own_process:
        # What imports make stays; to look for garbage in it takes a twentieth of a start.
        gc.set_threshold(200_000)
    # What follows takes its time to import: Ctrl-C is to be understood before.
    try:
        from pipelines.common.cli import signals

        if own_process:
            signals.end_at_once()
    except KeyboardInterrupt:
        sys.exit(130)
    from pipelines.common.cli import streams

    streams.claim(own=own_process)
    try:
        from pipelines.common.cli.app import run
    except ModuleNotFoundError as error:
        _end_without(error)
    run(own_process=own_process)


def _end_without(error: ModuleNotFoundError) -> NoReturn:
    """Ends the program where a package that even the command line needs is missing."""
    from pipelines.common import dependencies
    from pipelines.common.cli.console import say

    explanation = dependencies.explained(error)
    if explanation is None:
        raise error
    say(f"error: {explanation}")
    sys.exit(explanation.exit_code)
