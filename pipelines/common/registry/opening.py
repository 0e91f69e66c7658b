"""From what a user names to the pipeline that runs it, and what that is to open."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.common.errors import ModelFileError, UsageError, quoted
from pipelines.common.progress import Progress
from pipelines.common.registry.registry import Registry

if TYPE_CHECKING:
    from pipelines.common.text_generation import ModelOptions


def found(path: Path, registry: Registry, progress: Progress, *, offline: bool = False) -> Path:
    """A path as it is, or where a model of the hub is; see `pipelines.common.hub.fetch`.

    Args:
        path: What the user named.
        registry: Has the short names of models.
        progress: Told what is fetched.
        offline: Whether nothing may be fetched.

    Raises:
        UsageError: It begins like a name of the hub and is none.
        HubError: There is no such model, or it cannot be fetched.
        DependencyError: The package that fetches is not installed.
    """
    from pipelines.common.hub.fetch import located

    return located(path, registry.short_names, progress.notice, offline=offline)


def pipeline_for(path: Path, registry: Registry, task: str | None = None) -> str:
    """Name of the pipeline that a model is for.

    A file says what its architecture is, and a folder which pipeline has exported it.

    Args:
        path: The model.
        registry: Has the pipelines.
        task: What the pipeline has to be for; None for anything.

    Raises:
        ModelFileError: There is none, or the model cannot be read.
        UsageError: There are several, or it is for another task.
    """
    from pipelines.common.export.manifest import is_exported, read_manifest

    if is_exported(path):
        return read_manifest(path).pipeline
    architecture = registry.opener(path)(path).metadata.string("general.architecture")
    names = registry.pipelines_for(architecture)
    if not names:
        known = {
            each: name
            for name, entry in registry.pipelines.items()
            for each in entry.record.architectures
        }
        if alike := [each for each in known if _letters(each) == _letters(architecture)]:
            raise ModelFileError(
                f"{path}: pipeline {known[alike[0]]} runs architecture {quoted(alike[0])} from GGUF"
                " files, and no folder; llama.cpp's convert_hf_to_gguf.py makes such a file of it"
            )
        there = ", ".join(sorted(known))
        raise ModelFileError(
            f"{path}: no pipeline here runs architecture {quoted(architecture)}; there are some for"
            f" {there}, and a plugin can bring another"
        )
    if len(names) > 1:
        raise UsageError(
            f"{path}: pipelines {' and '.join(names)} run architecture {quoted(architecture)}; name"
            f" one: {names[0]} `model_path` {path}"
        )
    if task not in (None, its := registry.pipelines[names[0]].record.task):
        raise UsageError(
            f"{path} is a model of pipeline {names[0]}, whose task is '{its}'; use {names[0]}"
            f" `model_path` {path}"
        )
    return names[0]


def _letters(architecture: str) -> str:
    """A name without what GGUF files and others write differently in it."""
    return architecture.replace("-", "").replace("_", "")


def prepared(
    name: str,
    options: ModelOptions,
    registry: Registry,
    progress: Progress,
    task: str | None = None,
) -> tuple[Any, ModelOptions]:
    """A pipeline that can be told to open a model, and what it is to open for which target.

    Args:
        name: The pipeline's.
        options: What the user asked for: the model may be a name of the hub, and the target
            ``auto``.
        registry: Has pipelines and targets.
        progress: Told what is fetched, and which targets are passed over.
        task: See `Registry.load_pipeline`.

    Raises:
        PipelineError: There is no such pipeline, model or target, it cannot run here, or it does
            not take what was asked for.
    """
    from pipelines.common.export.manifest import target_for
    from pipelines.common.registry.target_choice import choose

    if options.model_path is not None:
        path = found(options.model_path, registry, progress, offline=options.offline)
        options = replace(options, model_path=path)
    target = target_for(options.model_path, options.target, registry.targets)
    options = replace(options, target=choose(registry, target, options.device, progress))
    pipeline = registry.load_pipeline(name, task)
    check_takes_random(pipeline, name, options)
    return pipeline, options


def check_takes_random(pipeline: object, name: str, options: ModelOptions) -> None:
    """Makes sure that random weights are not asked for in vain.

    Args:
        pipeline: The pipeline that is to be run.
        name: Its name.
        options: What the user asked for.

    Raises:
        UsageError: They are.
    """
    from pipelines.common.text_generation import RandomPipeline

    if options.random is not None and not isinstance(pipeline, RandomPipeline):
        raise UsageError(f"pipeline {name} has no weights that could be random; leave out `random`")
