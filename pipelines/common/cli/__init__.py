"""The command line: one sub-command per pipeline, and commands about models and the cache."""

from __future__ import annotations

import sys


def main() -> None:
    """Runs the program on the command line's arguments, and exits."""
    own_process = sys.stdout is sys.__stdout__  # no test or program that captures it
    # What follows takes its time to import: Ctrl-C is to be understood before.
    try:
        from pipelines.common.cli import signals

        if own_process:
            signals.end_at_once()
    except KeyboardInterrupt:
        sys.exit(130)
    from pipelines.common.cli import streams

    streams.claim(own=own_process)
    from pipelines.common.cli.app import run

    run(own_process=own_process)
