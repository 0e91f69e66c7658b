"""What the commands of one invocation share: the registry."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import typer

from pipelines.common.cli.console import say
from pipelines.common.cli.streams import taken_back
from pipelines.common.errors import UsageError
from pipelines.common.files import typed_path
from pipelines.common.registry.registry import Registry

PLUGIN_PATHS = "RUN_PIPELINE_PLUGIN_PATH"
"""The variable of the environment that stands for ``--plugin-path``."""

LEFT_OUT = "RUN_PIPELINE_NO_PLUGIN"
"""The one that stands for ``--no-plugin``."""


def registry_of(ctx: typer.Context) -> Registry:
    """The registry of this invocation, discovered at the first call.

    Plugins that were skipped are reported then, and names that several claim.

    Args:
        ctx: The command's.

    Raises:
        PluginError: Two plugins claim one name, or one claims a command of the driver, when strict.
    """
    root = ctx.find_root()
    if root.obj is None:
        options = root.params
        plugin_paths = options["plugin_path"] or _plugin_paths()
        with taken_back():  # also while words are completed
            registry = Registry.discover(
                plugin_paths,
                left_out=options["no_plugin"] or list(_listed(LEFT_OUT)),
                strict=options["strict_plugins"],
            )
        if not root.resilient_parsing:  # as it is while a shell completes
            for line in (*registry.overrides, *registry.problems):
                say(line)
        root.obj = registry
    found: Registry = root.obj
    return found


def _listed(variable: str) -> Iterable[str]:
    """What the environment names between colons, as in PATH."""
    # Two colons, or one at an end, come of a variable that was not set; they name nothing.
    return filter(None, os.environ.get(variable, "").split(os.pathsep))


def _plugin_paths() -> list[Path]:
    """The plugins that the environment names."""
    try:
        return [typed_path(text) for text in _listed(PLUGIN_PATHS)]
    except ValueError as error:
        raise UsageError(f"{PLUGIN_PATHS} {error}") from error


def complete_pipeline(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Names of pipelines that begin with `incomplete`, for the shell."""
    pipelines = {n: e.record.summary for n, e in registry_of(ctx).pipelines.items()}
    return [(n, summary) for n, summary in pipelines.items() if n.startswith(incomplete)]


def complete_target(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Names of targets that begin with `incomplete`, for the shell."""
    targets = {n: e.record.summary for n, e in registry_of(ctx).targets.items()}
    choices = {"auto": "The best that can run here.", **targets}
    return [(n, summary) for n, summary in choices.items() if n.startswith(incomplete)]
