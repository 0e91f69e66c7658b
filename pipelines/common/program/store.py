"""Keeps lowered graphs, so that later runs need not import what makes them.

A key holds the decoder's dimensions, the versions of the libraries at work, what every weight runs
in, the target, its rules and those of op packages. The entry itself lists the code and data that it
was made from, see `sources`: where one of them has changed since, a plugin's `model.py`, a rule or
a table that it reads, the entry is stale.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pipelines.common import dependencies, opened
from pipelines.common.bystanders import bystanders
from pipelines.common.cache import digest
from pipelines.common.errors import CacheError
from pipelines.common.graph.rules import LoweredGraph, LoweredWeight, Rule, Taken
from pipelines.common.program.sources import (
    LIBRARIES,
    Sources,
    changed,
    place,
    sources,
    together,
    versions,
    without,
    without_file,
)
from pipelines.common.program.target import Check, Deployment

if TYPE_CHECKING:
    import onnx_ir as ir

    from pipelines.common.cache import Cache
    from pipelines.common.nn.network import Network
    from pipelines.common.program.weights import WeightSource

PACKAGES = ("onnx", "onnx_ir", "onnxscript")
"""The libraries that a graph is built and lowered with, for those who want to know."""

_MODEL, _INDEX = "graph.onnx", "graph.json"


class Buildable(Protocol):
    """What graphs are made of, see `pipelines.common.program.module_program.ModuleProgram`."""

    @property
    def function(self) -> str:
        """``"package.module:function"``, which has made the network."""

    @property
    def numbers(self) -> Mapping[str, Any]:
        """What it was made of, by name."""

    @property
    def weights(self) -> WeightSource:
        """The weights, each in the encoding that it is to run in."""

    @property
    def cache(self) -> Cache:
        """Where graphs are kept."""

    def declared(self, deployment: Deployment) -> Network:
        """The network, whose operators are declared."""


def lowered_graph(
    network: Buildable,
    deployment: Deployment,
    target: str,
    rules: Sequence[Rule],
    activations: str = "float32",
    check: Check | None = None,
) -> LoweredGraph:
    """The graph of a deployment for a target, from the cache or newly made.

    Args:
        network: The network and its weights.
        deployment: What it is for.
        target: Name of the target.
        rules: The target's own; those of the deployment's op packages come before them.
        activations: The type of the activations.
        check: Asked about a graph that is newly made.
    """
    rules = [*(rule for package in deployment.packages for rule in package.rules(target)), *rules]
    key = digest(
        {
            "pipeline": deployment.pipeline,
            "network": network.function,
            "config": network.numbers,
            "driver": place("pipelines"),
            "versions": versions(),
            "python": sys.version,
            "encodings": {name: str(runs) for name, runs in network.weights.encodings.items()},
            "target": target,
            "activations": activations,
            "packages": [[package.name, str(package.path)] for package in deployment.packages],
            "rules": [[rule.package, rule.name, *_modules(rule)] for rule in rules],
        }
    )
    with deployment.progress.phase("lower", "reading the lowered graph"):
        kept = _find(network, deployment, key)
    if kept is not None:
        deployment.progress.from_cache |= {"build", "lower"}
        deployment.progress.seconds.setdefault("build", 0.0)
        return kept

    network.cache.check_may_make(f"the graph of {deployment.pipeline} for {target}")
    dependencies.check(*PACKAGES)
    before = sources(network.cache)
    with opened.making():
        model = neutral_graph(network, deployment)
        with deployment.progress.phase("lower", f"lowering the graph for {target}"):
            from pipelines.common.graph.lower import lower

            graph = lower(model, rules, network.weights.encodings, target, activations)
            if check is not None:
                check(graph)
    makers = [
        network.function.partition(":")[0],
        *(module for rule in rules for module in _modules(rule)),
    ]
    description = f"{deployment.pipeline} for {target}"
    _keep(network, deployment, key, graph, before, makers, description)
    return graph


def neutral_graph(network: Buildable, deployment: Deployment) -> ir.Model:
    """The neutral graph of a network."""
    with deployment.progress.phase("build", "building the graph"):
        from pipelines.common.graph.build import build

        return build(network.declared(deployment))


def describe(graph: LoweredGraph) -> dict[str, Any]:
    """Everything about a graph but the model itself, which it has a digest of; JSON values."""
    return {
        "model": _digest(graph.model),
        "weights": [dataclasses.asdict(weight) for weight in graph.weights],
        "state_bytes": graph.state_bytes,
        "taken": [dataclasses.asdict(taken) for taken in graph.taken],
        "activations": graph.activations,
    }


def described(model: bytes, index: Mapping[str, Any]) -> LoweredGraph:
    """The graph of a model and its description.

    Raises:
        ValueError: It is the description of another model.
        KeyError: It lacks something.
        TypeError: Something in it has another type, or was not known when this was written.
    """
    if _digest(model) != index["model"]:
        raise ValueError("the model is not the one that is described")
    weights = tuple(map(_weight, index["weights"]))
    taken = tuple(Taken(**taken) for taken in index["taken"])
    return LoweredGraph(model, weights, index["state_bytes"], taken, index["activations"])


def _weight(described: Mapping[str, Any]) -> LoweredWeight:
    """JSON has lists for tuples."""
    rows = described["rows"]
    tuples = {"shape": tuple(described["shape"]), "rows": None if rows is None else tuple(rows)}
    return LoweredWeight(**{**described, **tuples})


def _find(network: Buildable, deployment: Deployment, key: str) -> LoweredGraph | None:
    """The graph of an entry; None if there is none, it is damaged, or made from other sources."""
    folder = network.cache.get("graph", key)
    if folder is None:
        return None
    try:
        index = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
        if source := changed(index["sources"], network.cache):
            deployment.progress.detail(f"{source} has changed since the graph was cached")
            return None
        return described((folder / _MODEL).read_bytes(), index)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        deployment.progress.notice(
            f"the cached graph {folder} is damaged and is made anew: {error!r}"
        )
        return None


def _keep(
    network: Buildable,
    deployment: Deployment,
    key: str,
    graph: LoweredGraph,
    before: Sources,
    makers: Iterable[str],
    description: str,
) -> None:
    """Stores an entry, in the place of one that is out of date.

    Args:
        network: What it is of.
        deployment: What it is for.
        key: Its key.
        graph: The graph.
        before: What had been loaded before it was made.
        makers: The modules that made it.
        description: One line for people.
    """
    makers = list(makers)
    apart = bystanders(makers, LIBRARIES)
    before = without(before, apart, network.cache)
    after = sources(network.cache, apart)

    def write(folder: Path) -> None:
        index = {**describe(graph), "sources": together(before, after)}
        (folder / _MODEL).write_bytes(graph.model)
        (folder / _INDEX).write_text(json.dumps(index), encoding="utf-8")

    # What was loaded need not be what is there now.
    if source := changed(before, network.cache):
        deployment.progress.notice(f"the graph is not kept: {source} changed while it was made")
        return
    if module := without_file(makers):
        deployment.progress.detail(
            f"the graph is not kept: changes of {module} would not be noticed"
        )
        return
    try:
        network.cache.discard("graph", key)
        network.cache.put("graph", key, write, description)
    except CacheError as error:
        deployment.progress.notice(str(error))


def _modules(rule: Rule) -> list[str]:
    """The modules that define a rule's functions, or whatever can be called like one."""
    functions: tuple[Any, ...] = (rule.pattern, rule.emit)
    return [getattr(each, "__module__", None) or type(each).__module__ for each in functions]


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()
