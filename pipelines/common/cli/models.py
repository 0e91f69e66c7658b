"""The options with the model that they name."""

from __future__ import annotations

from dataclasses import replace

from pipelines.common.cli.options import ModelChoice
from pipelines.common.progress import Progress
from pipelines.common.registry.opening import found
from pipelines.common.registry.registry import Registry


def with_model(model: ModelChoice, registry: Registry, progress: Progress) -> ModelChoice:
    """The options with the path of the model that they name."""
    if model.model_path is None:
        return model
    path = found(model.model_path, registry, progress, offline=model.offline)
    return replace(model, model_path=path)
