"""What the commands of one invocation share: the registry."""

from __future__ import annotations

import typer

from pipelines.common.cli.console import say
from pipelines.common.cli.streams import taken_back
from pipelines.common.registry.environment import discovered
from pipelines.common.registry.registry import Registry


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
        with taken_back():  # also while words are completed
            registry = discovered(
                options["plugin_path"] or (),
                options["no_plugin"] or (),
                strict=options["strict_plugins"],
            )
        if not root.resilient_parsing:  # as it is while a shell completes
            for line in (*registry.overrides, *registry.problems):
                say(line)
        root.obj = registry
    found: Registry = root.obj
    return found


def complete_pipeline(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Names of pipelines that begin with `incomplete`, for the shell."""
    pipelines = {n: e.record.summary for n, e in registry_of(ctx).pipelines.items()}
    return [(n, summary) for n, summary in pipelines.items() if n.startswith(incomplete)]


def complete_target(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Names of targets that begin with `incomplete`, for the shell."""
    targets = {n: e.record.summary for n, e in registry_of(ctx).targets.items()}
    choices = {"auto": "The best that can run here.", **targets}
    return [(n, summary) for n, summary in choices.items() if n.startswith(incomplete)]
