"""How much memory a run of a model takes, target by target, before anything is loaded."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pipelines.common.cli.formatting import human_size
from pipelines.common.cli.wording import worded
from pipelines.common.errors import PipelineError
from pipelines.common.op_packages import NATIVE
from pipelines.common.progress import Progress

if TYPE_CHECKING:
    from pipelines.common.program.target import Deployment
    from pipelines.common.registry.registry import Registry
    from pipelines.common.text_generation import GraphModel, ModelOptions

_WIDTH: Final = 80
_COLUMNS: Final = ("weights", "kv", "working", "total")
_BESIDES: Final = (
    "The program and the tokenizer take 100 to 200 MiB besides, with PyTorch 300. What Core ML"
    " works in is not known."
)
_WITHOUT_NATIVE: Final = "--no-native-ops"


@dataclass(frozen=True)
class RunSize:
    """What is asked about.

    Attributes:
        max_length: Tokens that a sequence can grow to; None for what is usual.
        batch_size: Sequences side by side.
        encoding: See `ModelOptions.encoding`.
    """

    max_length: int | None = None
    batch_size: int = 1
    encoding: str = ""


def memory(model: Path, size: RunSize, registry: Registry) -> dict[str, Any]:
    """What runs of a model take on every target, or why there are none, as JSON values.

    Args:
        model: A model, or an exported folder, which runs on one target.
        size: Of the runs.
        registry: Has pipelines and targets.

    Raises:
        UsageError: The model's context is shorter than the sequences asked for.
    """
    from pipelines.common.cli.run import length_in_context
    from pipelines.common.export.manifest import is_exported, target_for
    from pipelines.common.registry.target_choice import AUTO
    from pipelines.common.requests.session import usual_length
    from pipelines.common.text_generation import ModelOptions

    try:
        options = ModelOptions(model_path=model, encoding=size.encoding)
        exported = is_exported(model)
        if exported:
            options = replace(options, target=target_for(model, AUTO, registry.targets))
        opened, pipeline = _opened(model, options, registry)
    except PipelineError as error:
        return {"unknown": worded(str(error))}
    context = opened.context_length
    length = usual_length(length_in_context(size.max_length, context), context)
    deployment = opened.deployment(slots=size.batch_size, max_length=length)
    deployments = (
        [(options.target, bool(deployment.packages), deployment)]
        if exported
        else _on_all_targets(deployment, options, registry)
    )
    return {
        "pipeline": pipeline,
        "max_length": length,
        "batch_size": size.batch_size,
        "encodings": dict(Counter(deployment.program.encodings.values()).most_common()),
        "runs": [
            {"target": name, "native_ops": native, **_taken(name, deployment, registry)}
            for name, native, deployment in deployments
        ],
    }


def _opened(model: Path, options: ModelOptions, registry: Registry) -> tuple[GraphModel, str]:
    """A model with the pipeline that it is for, and the name of that."""
    from pipelines.common.cli.graph_model import open_graph_model
    from pipelines.common.registry.opening import pipeline_for

    pipeline = pipeline_for(model, registry)
    return open_graph_model(registry, pipeline, options, Progress(), "reckon"), pipeline


def _on_all_targets(
    deployment: Deployment, options: ModelOptions, registry: Registry
) -> Iterator[tuple[str, bool, Deployment]]:
    """Each target, with the native kernels where it has them, and without."""
    for name in registry.targets:
        there = replace(options, target=name)
        packages = registry.packages.of_model(there, Progress(), deployment.pipeline)
        others = tuple(package for package in packages if package.name != NATIVE)
        if any(package.name == NATIVE and package.rules(name) for package in packages):
            yield name, True, replace(deployment, packages=packages)
        yield name, False, replace(deployment, packages=others)


def _taken(target: str, deployment: Deployment, registry: Registry) -> dict[str, Any]:
    try:
        found = registry.footprint(target, deployment)
    except PipelineError as error:
        return {"unknown": worded(str(error))}
    if found is None:
        return {"unknown": "the target does not tell"}
    return {
        "weights": found.weights,
        "kv": found.state,
        "working": found.computing,
        "total": found.total,
        "on_device": found.on_device,
    }


def memory_lines(record: dict[str, Any]) -> list[str]:
    """The record of `memory` for people, in lines of 80 columns."""
    if "unknown" in record:
        return ["Memory of a run", *_wrapped(f"not known: {record['unknown']}")]
    encodings = ", ".join(f"{count} {name}" for name, count in record["encodings"].items())
    runs = record["runs"]
    both = Counter(run["target"] for run in runs)
    names = [
        f"{run['target']} {_WITHOUT_NATIVE}"
        if both[run["target"]] > 1 and not run["native_ops"]
        else run["target"]
        for run in runs
    ]
    width = max(map(len, names))
    size = f"--max-length {record['max_length']} --batch-size {record['batch_size']}"
    lines = [
        f"Memory of a run ({size})",
        *_wrapped(f"weights run in: {encodings}"),
        f"  {'':<{width}}" + "".join(f"{name:>11}" for name in _COLUMNS),
    ]
    for name, run in zip(names, runs, strict=True):
        if "unknown" in run:
            lines += _wrapped(f"{name:<{width}}  not known: {run['unknown']}")
            continue
        sizes = "".join(f"{human_size(run[column]):>11}" for column in _COLUMNS)
        lines.append(f"  {name:<{width}}{sizes}{'  (device)' * run['on_device']}")
    return [*lines, *_wrapped(_BESIDES)]


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent="  ", subsequent_indent="    ")
