"""Writes a model, lowered for a target, into a folder that runs elsewhere."""

from __future__ import annotations

import contextlib
import errno
import importlib.metadata
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pipelines
from pipelines.common.errors import ExportError, PipelineError, UsageError
from pipelines.common.export.manifest import (
    FORMAT,
    GRAPH,
    MODEL,
    WEIGHTS,
    Manifest,
    describe_file,
    rotations_of,
)
from pipelines.common.export.packages import package_digest
from pipelines.common.export.staging import new_folder
from pipelines.common.files import exists, resolved
from pipelines.common.graph.rules import LoweredGraph
from pipelines.common.ort.packages import at_work
from pipelines.common.program.external import Place, placed, write_tensors
from pipelines.common.program.module_program import ModuleProgram
from pipelines.common.program.store import PACKAGES
from pipelines.common.program.target import Deployment, Target
from pipelines.common.text_generation import GraphModel, chat_settings


def export(model: GraphModel, target: str, folder: Path, *, reference_weights: bool) -> Manifest:
    """Writes the folder; it appears as a whole or not at all.

    Args:
        model: What to export, opened for that target.
        target: The target's name.
        folder: Where to; it must not exist, or be empty.
        reference_weights: Whether the weights are left in the model file, to which the folder then
            refers. Only this driver runs such a folder.

    Returns:
        What the folder says of itself.

    Raises:
        UsageError: The model is an exported folder itself.
        ExportError: The folder cannot be written, or has something in it, or the model has
            something that a folder does not keep.
        LoweringError: The graph has an operator that the target has no rule for.
        TargetError: The target runs no graphs.
    """
    folder = resolved(folder)
    _check_free(folder)
    deployment = model.deployment(slots=1, max_length=model.context_length)
    if not isinstance(deployment.program, ModuleProgram):
        raise UsageError("an exported folder cannot be exported again; name its model file")
    graph = model.target.lower(deployment)
    origin = deployment.program.origin(deployment.progress)
    on_disk = exists(Path(origin.path))
    if reference_weights and not on_disk:
        raise UsageError(
            f"the folder cannot refer to {origin.path}, which is no file; leave out"
            " `reference_weights=True`"
        )
    if on_disk:
        # Links stay: a model of several files finds them beside the name that it was given by.
        origin = replace(origin, path=str(Path(origin.path).absolute()))
    with deployment.progress.phase("write", f"writing {folder.name}"), _written(folder) as staging:
        (staging / GRAPH).write_bytes(graph.model)
        places = (
            {} if reference_weights else _write_weights(staging, deployment, model.target, graph)
        )
        for name, document in model.documents().items():
            (staging / name).write_bytes(document)
        manifest = Manifest(
            format=FORMAT,
            driver=pipelines.__version__,
            pipeline=deployment.pipeline,
            target=target,
            config=dict(deployment.program.numbers),
            rotations=rotations_of(deployment.interface, model.context_length),
            activations=graph.activations,
            state_bytes=graph.state_bytes,
            weights=graph.weights,
            places=places,
            taken=graph.taken,
            op_packages=_packages(deployment, graph),
            origin=origin,
            chat=chat_settings(model),
            versions=_versions(model.target),
            files={path.name: describe_file(path) for path in sorted(staging.iterdir())},
        )
        manifest.write(staging)
        _check_opens(model, staging, folder)
    return manifest


def _check_free(folder: Path) -> None:
    """Makes sure that nothing is lost; what can be found out before the work is."""
    try:
        if folder.is_dir():
            what = "is not empty" if any(folder.iterdir()) else ""
        else:  # a link that is left where all have been followed leads in a circle
            what = "is no folder" if os.path.lexists(folder) else ""
    except OSError as error:
        raise _not_writable(folder, error) from error
    if what:
        raise ExportError(f"{folder} {what}; name another folder, or delete it first")


@contextlib.contextmanager
def _written(folder: Path) -> Iterator[Path]:
    """The folder to write into, see `new_folder`; that it cannot be written is one line."""
    try:
        with new_folder(folder) as staging:
            yield staging
    except OSError as error:
        if error.errno == errno.ENOTEMPTY:
            _check_free(folder)
        raise _not_writable(folder, error) from error


def _not_writable(folder: Path, error: OSError) -> ExportError:
    return ExportError(
        f"cannot write {folder}: {error.strerror or error}; make room there, or name another folder"
    )


def _check_opens(model: GraphModel, staging: Path, folder: Path) -> None:
    """Makes sure that what was written is read again as it is, before it is there for anybody.

    Raises:
        ExportError: It is not: something about the model has no place in such a folder.
    """
    try:
        model.exported(staging)
    except PipelineError as error:
        reason = str(error).replace(str(staging), str(folder))
        raise ExportError(
            f"this model cannot be exported; what was written could not be opened: {reason}"
        ) from error


def _write_weights(
    folder: Path, deployment: Deployment, target: Target, graph: LoweredGraph
) -> dict[str, Place]:
    """Writes the tensors, and the graph once more as a model that refers to them."""
    with (folder / WEIGHTS).open("wb") as file:
        places = write_tensors(
            deployment.program.tensors(graph, target.layouts, deployment.packages), file
        )
    (folder / MODEL).write_bytes(placed(graph.model, places, WEIGHTS))
    return places


def _packages(deployment: Deployment, graph: LoweredGraph) -> dict[str, str]:
    """Digests of the op packages whose rules took a part of the graph."""
    return {package.name: package_digest(package.path) for package in at_work(deployment, graph)}


def _versions(target: Target) -> dict[str, str]:
    built_with = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"pipeline-driver": pipelines.__version__, **built_with, **target.versions()}
