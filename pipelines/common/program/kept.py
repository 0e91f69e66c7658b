"""Tensors that layouts make of weights, kept in the cache and mapped from there."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from pipelines.common import opened
from pipelines.common.bystanders import bystanders
from pipelines.common.cache import digest
from pipelines.common.graph.rules import LoweredGraph
from pipelines.common.program.external import Place, write_tensors
from pipelines.common.program.package import Layout
from pipelines.common.program.sources import LIBRARIES, changed, file_digest, sources, versions
from pipelines.common.program.store import describe
from pipelines.common.program.stored_weights import StoredWeights
from pipelines.common.program.target import Deployment
from pipelines.common.program.tensors import Made

WEIGHTS = "weights.bin"
"""Name of the file of the tensors in an entry."""

_PLACES, _SOURCES = "places.json", "sources.json"


def ready_tensors(
    deployment: Deployment, graph: LoweredGraph, layouts: Mapping[str, Layout]
) -> Iterator[Made]:
    """The graph's tensors, as `Program.tensors` has them.

    Where the deployment keeps what is packed, those that a layout makes are mapped from the cache;
    what is not in it is made first. The others are views of the model file anyway.

    Raises:
        CacheError: The cache cannot be written, or the disk is full.
        OfflineError: They are not in a cache that has to hold them.
    """
    program, packages = deployment.program, deployment.packages
    if deployment.pack_cache and isinstance(program.weights, StoredWeights):
        deployment.progress.notice(
            "`pack_cache` changes nothing for an exported folder, whose weights are packed"
        )
    if not deployment.pack_cache or isinstance(program.weights, StoredWeights):
        yield from program.tensors(graph, layouts, packages)
        return
    packed = _packed(graph)
    if packed.weights:
        yield from _stored(_keep(deployment, packed, layouts)).tensors(packed.weights)
    as_stored = tuple(weight for weight in graph.weights if not weight.is_packed)
    yield from program.tensors(dataclasses.replace(graph, weights=as_stored), layouts, packages)


def keep_packed(deployment: Deployment, graph: LoweredGraph, layouts: Mapping[str, Layout]) -> None:
    """Makes ahead what `ready_tensors` maps from the cache; errors are its own."""
    packed = _packed(graph)
    if deployment.pack_cache and packed.weights:
        _keep(deployment, packed, layouts)


def _keep(deployment: Deployment, packed: LoweredGraph, layouts: Mapping[str, Layout]) -> Path:
    return kept(deployment, packed, layouts, f"packed weights of {deployment.pipeline}")


def _packed(graph: LoweredGraph) -> LoweredGraph:
    """The graph with the tensors alone that layouts make."""
    packed = tuple(weight for weight in graph.weights if weight.is_packed)
    return dataclasses.replace(graph, weights=packed)


def kept(
    deployment: Deployment,
    graph: LoweredGraph,
    layouts: Mapping[str, Layout],
    what: str,
    beside: Callable[[Path, Mapping[str, Place]], None] = lambda _, __: None,
) -> Path:
    """The cache's entry of all tensors of a graph; it is made if need be.

    Args:
        deployment: What the graph is of.
        graph: Whose tensors are kept.
        layouts: The target's.
        what: What it is, for people.
        beside: Writes more into the entry, given its folder and where each tensor is.

    Raises:
        CacheError: The cache cannot be written, or the disk is full.
        OfflineError: It is not in a cache that has to hold it.
    """
    program, cache = deployment.program, deployment.program.cache
    nbytes = sum(weight.nbytes for weight in graph.weights)
    key = digest(
        program.weights.fingerprint,
        describe(graph),
        {"versions": versions(), "libraries": _libraries(deployment)},
    )

    def write(folder: Path) -> None:
        with (
            opened.making(),
            (folder / WEIGHTS).open("wb") as file,
            deployment.progress.counted(f"keeping the {what}", nbytes) as done,
        ):
            made = program.tensors(graph, layouts, deployment.packages)
            places = write_tensors(_counted(made, done), file)
        by_name = {name: dataclasses.astuple(place) for name, place in places.items()}
        (folder / _PLACES).write_text(json.dumps(by_name), encoding="utf-8")
        beside(folder, places)
        apart = bystanders((), LIBRARIES)
        (folder / _SOURCES).write_text(json.dumps(sources(cache, apart)), encoding="utf-8")

    found = cache.get("weights", key)
    if found is not None:
        # Layouts, the project's and those of op packages, are code as rules are.
        source = changed(json.loads((found / _SOURCES).read_text(encoding="utf-8")), cache)
        if source is None:
            return found
        deployment.progress.detail(f"{source} has changed since the weights were cached")
    cache.check_may_make(f"the file of the {what}")
    if found is not None:
        cache.discard("weights", key)
    deployment.progress.notice(f"keeping the {what} in the cache, {nbytes / 1e9:.2f} GB")
    return cache.put("weights", key, write, what)


def _stored(folder: Path) -> StoredWeights:
    places = json.loads((folder / _PLACES).read_text(encoding="utf-8"))
    file = folder / WEIGHTS
    by_name = {name: Place(*place) for name, place in places.items()}
    return StoredWeights(file, by_name, file.stat().st_size, folder.name)


def _libraries(deployment: Deployment) -> list[str]:
    """Digests of the libraries of op packages: what tiles look like is for them to say."""
    libraries = (package.library for package in deployment.packages)
    cache = deployment.program.cache
    return [file_digest(str(library), cache) for library in libraries if library is not None]


def _counted(made: Iterator[Made], done: Callable[[int], None]) -> Iterator[Made]:
    for weights, array in made:
        yield weights, array
        done(array.nbytes)
