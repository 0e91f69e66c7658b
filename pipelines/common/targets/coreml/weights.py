"""Where the weights of a graph for Core ML are: the matrices in a file, embeddings at hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.common.encodings import ENCODINGS, Encoding
from pipelines.common.encodings.convert import dequantize
from pipelines.common.errors import CacheError
from pipelines.common.graph.rules import LoweredGraph
from pipelines.common.program.external import Place, placed
from pipelines.common.program.kept import WEIGHTS, kept
from pipelines.common.program.target import Deployment
from pipelines.common.targets.coreml import layouts
from pipelines.common.targets.coreml.rules import embedded

GRAPH = "graph.onnx"
"""Name of the graph beside the weights of `stored`."""


@dataclass(frozen=True)
class Table:
    """A table whose rows are an input of the graph.

    Attributes:
        encoding: What it is in.
        raw: Its rows, ``[rows, row_bytes]``.
    """

    encoding: Encoding
    raw: NDArray[np.uint8]

    def rows(self, ids: NDArray[np.integer[Any]]) -> NDArray[np.float32]:
        """Rows ``[..., width]`` by their numbers ``[...]``."""
        found = dequantize(self.encoding, self.raw[ids.reshape(-1)])
        return found.reshape(*ids.shape, -1)


@dataclass(frozen=True)
class Tables:
    """The tables of a graph, which has none of them.

    Attributes:
        by_parameter: Each by its name.
        takes: Names of the arrays that have numbers of rows.
    """

    by_parameter: Mapping[str, Table]
    takes: tuple[str, ...]

    def rows(
        self, names: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]
    ) -> dict[str, NDArray[np.float32]]:
        """The rows that a graph is fed.

        Args:
            names: With the names of its inputs.
            arrays: What the network takes.
        """
        return {
            name: table.rows(arrays[ids])
            for parameter, table in self.by_parameter.items()
            for ids in self.takes
            if (name := embedded(ids, parameter)) in names
        }


def stored(deployment: Deployment, graph: LoweredGraph) -> Path:
    """The folder of the cache that has the graph and a file of its weights; made if need be.

    The provider reads weights only where they are external data, or in the model itself.

    Raises:
        CacheError: The cache cannot be written, or the disk is full.
        OfflineError: They are not in a cache that has to hold them.
    """

    def write_graph(folder: Path, places: Mapping[str, Place]) -> None:
        (folder / GRAPH).write_bytes(placed(graph.model, places, WEIGHTS, constant=True))

    in_graph = tuple(weight for weight in graph.weights if not weight.host)
    wanted = dataclasses.replace(graph, weights=in_graph)
    what = f"float16 weights of {deployment.pipeline} for coreml"
    return kept(deployment, wanted, layouts.LAYOUTS, what, write_graph)


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


def tables(deployment: Deployment, graph: LoweredGraph) -> Tables:
    """What embeds tokens; a rule of an op package may have left it in the graph."""
    on_host = tuple(weight for weight in graph.weights if weight.host)
    wanted = dataclasses.replace(graph, weights=on_host)
    made = deployment.program.tensors(wanted, layouts.LAYOUTS, deployment.packages)
    found = {
        weight.parameter: Table(ENCODINGS[weight.encoding], array.reshape(weight.shape))
        for weights, array in made
        for weight in weights
    }
    return Tables(found, tuple(deployment.interface.takes))
