"""Which pipeline a model of text is for, and opening it with that."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import typer

from pipelines.common.cli.console import ConsoleProgress
from pipelines.common.cli.context import registry_of
from pipelines.common.cli.models import found, with_model
from pipelines.common.cli.offline import told_to_store
from pipelines.common.cli.options import ModelChoice
from pipelines.common.cli.random_weights import check_takes_random
from pipelines.common.errors import ModelFileError, UsageError, quoted

if TYPE_CHECKING:
    from pipelines.common.registry.registry import Registry
    from pipelines.common.text_generation import ModelOptions, TextModel, TextPipeline

TASK: Final = "generate"
"""The task that pipelines of text are for."""


@contextmanager
def text_model(
    ctx: typer.Context, path: Path, model: ModelChoice, progress: ConsoleProgress
) -> Iterator[TextModel]:
    """Wherein a model that the user has named is open, with the pipeline that it is for.

    What the cache does not hold where it has to is told with the command that stores it.

    Raises:
        PipelineError: There is none, or the model cannot be opened.
    """
    name, model = with_pipeline(ctx, path, model, progress)
    pipeline, options = chosen(registry_of(ctx), name, model, progress)
    with told_to_store(name, options):
        yield pipeline.open(options, registry_of(ctx), progress)


def with_pipeline(
    ctx: typer.Context, path: Path, model: ModelChoice, progress: ConsoleProgress
) -> tuple[str, ModelChoice]:
    """The pipeline that a model is for, and the options with its path."""
    registry = registry_of(ctx)
    path = found(path, registry, progress, offline=model.offline)
    return _pipeline_for(path, registry), replace(model, model_path=path)


def _pipeline_for(path: Path, registry: Registry) -> str:
    """The pipeline that a model is for.

    Raises:
        ModelFileError: There is none, or the model cannot be read.
        UsageError: There are several.
    """
    from pipelines.common.export.manifest import is_exported, read_manifest

    if is_exported(path):
        return read_manifest(path).pipeline
    architecture = registry.opener(path)(path).metadata.string("general.architecture")
    names = registry.pipelines_for(architecture)
    if not names:
        known = (entry.record.architectures for entry in registry.pipelines.values())
        there = ", ".join(sorted(name for names in known for name in names))
        raise ModelFileError(
            f"{path}: no pipeline here runs architecture {quoted(architecture)}; there are some for"
            f" {there}, and a plugin can bring another"
        )
    if len(names) > 1:
        raise UsageError(
            f"{path}: pipelines {' and '.join(names)} run architecture {quoted(architecture)}; name"
            f" one: {names[0]} `model_path` {path}"
        )
    if (task := registry.pipelines[names[0]].record.task) != TASK:
        raise UsageError(
            f"{path} is a model of pipeline {names[0]}, whose task is '{task}'; use {names[0]}"
            f" `model_path` {path}"
        )
    return names[0]


def chosen(
    registry: Registry, name: str, model: ModelChoice, progress: ConsoleProgress
) -> tuple[TextPipeline, ModelOptions]:
    """The pipeline, and what it is to open for which target."""
    from pipelines.common.export.manifest import target_for
    from pipelines.common.registry.target_choice import choose

    model = with_model(model, registry, progress)
    target = target_for(model.model_path, model.target, registry.targets)
    options = model.options(choose(registry, target, model.device_id, progress))
    pipeline = registry.load_pipeline(name)
    check_takes_random(pipeline, name, options)
    return pipeline, options
