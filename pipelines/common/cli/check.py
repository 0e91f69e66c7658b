"""``check``: whether what a plugin brings does what it has to, on random weights."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from pipelines.common import dependencies
from pipelines.common.cli.context import complete_pipeline, registry_of
from pipelines.common.cli.options import AsJson, RandomConfig
from pipelines.common.cli.random_weights import asked_random
from pipelines.common.cli.streams import print_json, print_lines
from pipelines.common.cli.wording import worded
from pipelines.common.errors import PluginError
from pipelines.common.files import resolved

if TYPE_CHECKING:
    from pipelines.common.registry.registry import Registry

_STATES: Final = {"ok": "ok", "failed": "FAILED", "skipped": "skipped"}


def check(
    ctx: typer.Context,
    what: Annotated[
        str,
        typer.Argument(
            metavar="PIPELINE|TARGET|PLUGIN",
            help="Name of a pipeline, a target or a plugin, or a plugin's path.",
            autocompletion=complete_pipeline,
        ),
    ],
    random_config: RandomConfig = None,
    as_json: AsJson = False,
) -> None:
    """Check a pipeline, a target, or all of a plugin's, on random weights.

    Logits on every target are compared with those of the network run eagerly by PyTorch, graphs of
    targets that are not here on the CPU; so are encodings, batches, exported folders and files.
    """
    dependencies.check("torch")  # the reference
    from pipelines.common.pipeline_check.outcome import results
    from pipelines.common.pipeline_check.what import checks_of

    random = asked_random(True, random_config or ())
    assert random is not None
    strict = bool(ctx.find_root().params["strict_plugins"])
    records: list[dict[str, Any]] = []
    for name, checks in checks_of(what, _registry(ctx, what), random):
        if not as_json:
            print_lines(name)
        width = max(len(check.name) for check in checks)
        causes: dict[tuple[str, str], list[str]] = {}
        for result in results(checks, strict=strict):
            why = worded(result.why)
            records.append({"of": name, **dataclasses.asdict(result), "why": why})
            if result.outcome != "ok":
                causes.setdefault((result.outcome, why), []).append(result.check)
            if not as_json and len(causes.get((result.outcome, why), ())) < 2:
                print_lines(f"  {result.check:<{width}}  {_STATES[result.outcome]:<7}  {why}")
        if not as_json:
            print_lines(*_repeated(causes, width))
    counts = Counter(record["outcome"] for record in records)
    if as_json:
        print_json(records)
    else:
        skipped = f", {counts['skipped']} skipped" if counts["skipped"] else ""
        failed = f"{counts['failed']} failed" if counts["failed"] else "all ok"
        print_lines(f"{len(records)} checks, {failed}{skipped}")
    if counts["failed"]:
        raise typer.Exit(1)


def _repeated(causes: Mapping[tuple[str, str], Sequence[str]], width: int) -> Iterator[str]:
    """A line for each cause that several checks have.

    Args:
        causes: What became of checks and why, and which they are; the first of them was told.
        width: Of the names of checks.
    """
    for (outcome, _), (first, *others) in causes.items():
        if others:
            more = f"... and {len(others)} more check{'s' * (len(others) > 1)}"
            yield f"  {more:<{width}}  {_STATES[outcome]:<7}  as '{first}'"


def _registry(ctx: typer.Context, what: str) -> Registry:
    """The registry of this invocation, or one that has the plugin at a path as well.

    Raises:
        PluginError: That plugin cannot be loaded.
    """
    from pipelines.common.pipeline_check.what import plugin_at
    from pipelines.common.registry.registry import Registry

    registry = registry_of(ctx)
    path = plugin_at(what, registry)
    if path is None:
        return registry
    root = ctx.find_root().params
    paths: list[Path] = [*(root["plugin_path"] or ()), path]
    found = Registry.discover(paths, strict=bool(root["strict_plugins"]))
    if problems := [problem for problem in found.problems if str(resolved(path)) in problem]:
        raise PluginError(problems[0])
    return found
