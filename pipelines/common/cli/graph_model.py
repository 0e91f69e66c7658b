"""Opens the models of commands that work on graphs."""

from __future__ import annotations

from pipelines.common.errors import UsageError
from pipelines.common.progress import Progress
from pipelines.common.registry.opening import check_takes_random
from pipelines.common.registry.registry import Registry
from pipelines.common.text_generation import GraphModel, ModelOptions, ModelPipeline


def open_graph_model(
    registry: Registry, pipeline: str, options: ModelOptions, progress: Progress, purpose: str
) -> GraphModel:
    """Opens a model that targets lower to a graph.

    Args:
        registry: Has the pipelines.
        pipeline: Name of the model's pipeline.
        options: What the user asked for.
        progress: Told of every phase, and of what the user should know.
        purpose: What the graph is wanted for, for the message: ``export``.

    Raises:
        UsageError: The pipeline runs without a graph.
    """
    loaded = registry.load_pipeline(pipeline)
    check_takes_random(loaded, pipeline, options)
    model = loaded.open(options, registry, progress) if isinstance(loaded, ModelPipeline) else None
    if not isinstance(model, GraphModel):
        raise UsageError(f"pipeline {pipeline} runs without a graph; there is nothing to {purpose}")
    return model
