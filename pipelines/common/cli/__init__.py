"""The command line: one sub-command per pipeline, and commands about models and the cache."""

from pipelines.common.cli.app import main

__all__ = ["main"]
