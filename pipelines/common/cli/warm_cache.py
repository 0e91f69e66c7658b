"""``warm-cache``: makes ahead of time whatever a later run would make."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import typer

from pipelines.common.cache import Cache
from pipelines.common.cli.console import ConsoleProgress
from pipelines.common.cli.context import registry_of
from pipelines.common.cli.formatting import human_size
from pipelines.common.cli.grouping import grouped_options
from pipelines.common.cli.models import with_model
from pipelines.common.cli.options import AsJson, ModelToBuild, PipelineName, Quiet, Verbose
from pipelines.common.cli.streams import print_json, print_lines
from pipelines.common.errors import CacheError, OfflineError, UsageError

if TYPE_CHECKING:
    from pipelines.common.progress import Progress
    from pipelines.common.registry.registry import Registry
    from pipelines.common.text_generation import ModelOptions


@grouped_options
def warm_cache(
    ctx: typer.Context,
    pipeline: PipelineName,
    model: ModelToBuild,
    *,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Build ahead what later runs of a model need.

    All of it is stored, so that they can be given --offline. The target need not be here; it is not
    started.
    """
    from pipelines.common.registry.target_choice import choose_to_build

    cache = Cache.default()
    before = {entry.path: entry for entry in cache.entries()}
    registry = registry_of(ctx)
    progress = ConsoleProgress(quiet=quiet, verbose=verbose)
    model = with_model(model, registry, progress)
    options = model.options(choose_to_build(registry, model.target, progress))
    _make(registry, pipeline, options, progress)
    try:
        _make(registry, pipeline, replace(options, offline=True), progress)
    except OfflineError as error:
        # Why it could not be stored has been said: a run would go on without.
        raise CacheError(
            f"the cache {cache.root} does not keep what was made; make room there, or raise"
            f" RUN_PIPELINE_CACHE_LIMIT above {human_size(cache.limit_bytes)}"
        ) from error
    # What a run takes from the cache is marked as used; the rest is as it was.
    used = [entry for entry in cache.entries() if entry != before.get(entry.path)]
    if as_json:
        record = {
            "pipeline": pipeline,
            "target": options.target,
            "cache": str(cache.root),
            "entries": [
                {
                    "kind": entry.kind,
                    "key": entry.key,
                    "size_bytes": entry.size_bytes,
                    "description": entry.description,
                    "stored": entry.path not in before,
                }
                for entry in used
            ],
        }
        print_json(record)
        return
    lines = []
    for entry in used:
        state = "was there" if entry.path in before else "stored"
        size = human_size(entry.size_bytes)
        lines += [f"{entry.kind:<10} {size:>9}  {state:<9}  {entry.description}"]
    print_lines(*lines)


def _make(registry: Registry, pipeline: str, options: ModelOptions, progress: Progress) -> None:
    """Makes whatever a run reads from the cache, unless it is there."""
    from pipelines.common.cli.graph_model import open_graph_model
    from pipelines.common.program.module_program import ModuleProgram

    model = open_graph_model(registry, pipeline, options, progress, "store")
    deployment = model.deployment(slots=1, max_length=model.context_length)
    if not isinstance(deployment.program, ModuleProgram):
        raise UsageError("an exported folder needs nothing of the cache; name a model file")
    with progress.shown("converting weights"):
        deployment.program.weights.convert()
    model.target.prepare(deployment)
