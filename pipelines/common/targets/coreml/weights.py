"""Where the weights of a graph for Core ML are: the matrices in a file, the embedding at hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from pipelines.common.cache import digest
from pipelines.common.errors import CacheError
from pipelines.common.graph.rules import LoweredGraph
from pipelines.common.graph.store import describe
from pipelines.common.ort.packages import at_work
from pipelines.common.target import Job
from pipelines.common.targets.coreml import layouts
from pipelines.common.weights.encodings import ENCODINGS, dequantize

GRAPH, WEIGHTS = "graph.onnx", "weights.bin"
"""Names of the two files of `stored`."""

Embed: TypeAlias = Callable[[Sequence[int]], NDArray[np.float32]]
"""Token ids to their vectors, ``[tokens, hidden_size]``."""


def stored(job: Job, graph: LoweredGraph) -> Path:
    """The folder of the cache that has the graph and a file of its weights; made if need be.

    The provider reads weights only where they are external data, or in the model itself.

    Raises:
        CacheError: The cache cannot be written, or the disk is full.
        OfflineError: They are not in a cache that has to hold them.
    """
    cache = job.program.cache
    sources = [
        Path(layouts.__file__),
        *(file for p in at_work(job, graph) for file in _files(p.path)),
    ]
    key = digest(
        job.program.fingerprint,
        describe(graph),
        *(source.read_bytes() for source in sources),
    )

    def write(folder: Path) -> None:
        from pipelines.common.graph.external import placed, write_tensors  # imports onnx

        in_graph = tuple(weight for weight in graph.weights if not weight.host)
        wanted = dataclasses.replace(graph, weights=in_graph)
        made = job.program.tensors(wanted, layouts.LAYOUTS, job.packages)
        with (folder / WEIGHTS).open("wb") as file:
            places = write_tensors(made, file)
        (folder / GRAPH).write_bytes(placed(graph.model, places, WEIGHTS, constant=True))

    if (found := cache.get("weights", key)) is not None:
        return found
    cache.check_may_make(f"the float16 weights of {job.pipeline} for coreml")
    return cache.put("weights", key, write, f"{job.pipeline} for coreml")


def compiled(folder: Path, name: str) -> Path:
    """A folder beside the weights for what is compiled of them; it goes when they go.

    Raises:
        CacheError: The cache cannot be written.
    """
    made = folder / "compiled" / name
    try:
        made.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CacheError(f"cannot write the cache folder {made}: {error.strerror}") from error
    return made


def embedding(job: Job, graph: LoweredGraph) -> Embed | None:
    """What embeds tokens; None if the graph does, by a rule of an op package."""
    on_host = tuple(weight for weight in graph.weights if weight.host)
    wanted = dataclasses.replace(graph, weights=on_host)
    for (weight, *_), array in job.program.tensors(wanted, layouts.LAYOUTS, job.packages):
        encoding, rows = ENCODINGS[weight.encoding], array.reshape(weight.shape)
        return lambda tokens: dequantize(encoding, rows[list(tokens)])
    return None


def _files(package: Path) -> Iterator[Path]:
    """The files of an op package that its layouts may be in."""
    return iter(sorted(package.rglob("*.py"))) if package.is_dir() else iter([package])
