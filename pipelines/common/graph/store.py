"""Keeps lowered graphs, so that later runs import neither torch nor the exporter.

An entry's key holds the decoder's dimensions, what every weight runs in, the target, its rules and
those of op packages, and the versions of the packages at work. The entry itself lists the source
files that were loaded when it was made, with their hashes: one that has changed since, a plugin's
`model.py` or a rule, makes it stale.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from pipelines.common.cache import digest
from pipelines.common.errors import CacheError
from pipelines.common.graph.rules import LoweredGraph, LoweredWeight, Rule, Taken
from pipelines.common.importing import PREFIX
from pipelines.common.target import Job

PACKAGES = ("torch", "onnx", "onnx_ir", "onnxscript")
"""Packages whose versions have a say in the graph."""

_MODEL, _INDEX = "graph.onnx", "graph.json"


def lowered_graph(job: Job, target: str, rules: Sequence[Rule]) -> LoweredGraph:
    """The graph of a job for a target, from the cache or newly made.

    Args:
        job: The decoder.
        target: Name of the target.
        rules: The target's own; those of the job's op packages come before them.
    """
    rules = [*(rule for package in job.packages for rule in package.rules(target)), *rules]
    key = _key(job, target, rules)
    found = job.cache.get("graph", key)
    if found is not None:
        with job.progress.phase("lower", "reading the lowered graph"):
            graph = _read(found)
        if graph is not None:
            job.progress.from_cache |= {"build", "lower"}
            job.progress.seconds.setdefault("build", 0.0)
            return graph
        job.progress.detail(f"sources have changed since the graph {key[:12]} was cached")

    graph = _make(job, target, rules)

    def write(folder: Path) -> None:
        (folder / _MODEL).write_bytes(graph.model)
        index = {
            "weights": [dataclasses.asdict(weight) for weight in graph.weights],
            "state_bytes": graph.state_bytes,
            "taken": [dataclasses.asdict(taken) for taken in graph.taken],
            "sources": _loaded_sources(job),
        }
        (folder / _INDEX).write_text(json.dumps(index), encoding="utf-8")

    try:
        if found is not None:
            job.cache.discard("graph", key)
        job.cache.put("graph", key, write, f"{job.pipeline} for {target}")
    except CacheError as error:
        job.progress.notice(str(error))
    return graph


def _make(job: Job, target: str, rules: Sequence[Rule]) -> LoweredGraph:
    with job.progress.phase("build", "building the graph"):
        from pipelines.common.graph.build import build

        model = build(job.make_network, job.config)
    with job.progress.phase("lower", f"lowering the graph for {target}"):
        from pipelines.common.graph.lower import lower

        return lower(model, rules, job.weights.encodings, target)


def _key(job: Job, target: str, rules: Sequence[Rule]) -> str:
    return digest(
        {
            "pipeline": job.pipeline,
            "network": job.network,
            "config": dataclasses.asdict(job.config),
            "encodings": {name: str(encoding) for name, encoding in job.weights.encodings.items()},
            "target": target,
            "packages": [[package.name, str(package.path)] for package in job.packages],
            "rules": [[rule.package, rule.name] for rule in rules],
            "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
            "python": sys.version,
        }
    )


def _read(folder: Path) -> LoweredGraph | None:
    """The graph of an entry, or None if a source it was made from has changed."""
    index = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
    for source, expected in index["sources"].items():
        if _hash(Path(source)) != expected:
            return None
    weights = tuple(
        LoweredWeight(**{**weight, "shape": tuple(weight["shape"])}) for weight in index["weights"]
    )
    taken = tuple(Taken(**taken) for taken in index["taken"])
    return LoweredGraph((folder / _MODEL).read_bytes(), weights, index["state_bytes"], taken)


def _loaded_sources(job: Job) -> dict[str, str]:
    """Hashes of the loaded source files that no package version in the key stands for.

    These are the files of this project, of the pipeline's package, of plugins and op packages, and
    whatever else has been imported from outside the interpreter's own folders.
    """
    installed = tuple(
        str(Path(path).resolve())
        for path in {sysconfig.get_path(n) for n in ("stdlib", "purelib", "platlib")}
    )
    ours = {"pipelines", job.network.partition(".")[0].partition(":")[0]}
    sources = {}
    for name, module in list(sys.modules.items()):
        origin = getattr(module, "__file__", None)
        if origin is None or not origin.endswith(".py") or name == "__main__":
            continue
        path = Path(origin).resolve()
        package = name.partition(".")[0]
        if package in ours or package.startswith(PREFIX) or not str(path).startswith(installed):
            sources[str(path)] = _hash(path)
    return sources


def _hash(path: Path) -> str:
    """Digest of a file's content; empty if it is gone."""
    try:
        return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
    except OSError:
        return ""
