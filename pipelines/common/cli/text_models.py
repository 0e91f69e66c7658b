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
from pipelines.common.cli.offline import told_to_store
from pipelines.common.cli.options import ModelChoice
from pipelines.common.registry.opening import found, pipeline_for, prepared

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
    return pipeline_for(path, registry, TASK), replace(model, model_path=path)


def chosen(
    registry: Registry, name: str, model: ModelChoice, progress: ConsoleProgress
) -> tuple[TextPipeline, ModelOptions]:
    """The pipeline, and what it is to open for which target."""
    return prepared(name, model.options(), registry, progress)
