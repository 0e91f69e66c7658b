"""Where the model is that a user has named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pipelines.common.cli.options import ModelChoice
from pipelines.common.progress import Progress
from pipelines.common.registry.registry import Registry


def found(path: Path, registry: Registry, progress: Progress, *, offline: bool = False) -> Path:
    """A path as it is, or where a model of the hub is; see `pipelines.common.hub.fetch`."""
    from pipelines.common.hub.fetch import located

    return located(path, registry.short_names, progress.notice, offline=offline)


def with_model(model: ModelChoice, registry: Registry, progress: Progress) -> ModelChoice:
    """The options with the path of the model that they name."""
    if model.model_path is None:
        return model
    path = found(model.model_path, registry, progress, offline=model.offline)
    return replace(model, model_path=path)
