"""Runs a network that keeps nothing by graphs of fixed shapes, of which there are a few."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipelines.common.nn.interface import Interface
from pipelines.common.ort.arithmetic import MASKED, PADDING
from pipelines.common.ort.function import SessionFunction
from pipelines.common.ort.op_errors import NOBODY, Makers
from pipelines.common.ort.session import input_types
from pipelines.common.program.function import Arrays
from pipelines.common.targets.coreml.weights import Tables

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

_SHORTEST = 16


def lengths(longest: int) -> tuple[int, ...]:
    """How many tokens a call can have, up to so many: each twice as many as the one before."""
    found = [_SHORTEST]
    while found[-1] < longest:
        found.append(2 * found[-1])
    return tuple(found)


class CoreMLFunction:
    """Implements `pipelines.common.program.function.Function`.

    Sequences are computed one after the other. What has the size ``sequence`` is filled up with
    zeros to the next of some lengths, and cut again in what comes out; where something that comes
    out is not of that size, there is a session for each length that comes.

    Args:
        session: Makes a session of sizes; it is asked for when a call of those comes.
        interface: The network's.
        tables: What embeds tokens.
        lengths: What ``sequence`` is padded to, ascending.
        makers: Who has made the graph.
    """

    def __init__(
        self,
        session: Callable[[Mapping[str, int]], InferenceSession],
        interface: Interface,
        tables: Tables,
        lengths: Sequence[int],
        makers: Makers = NOBODY,
    ) -> None:
        self._session = session
        self._interface = interface
        self._tables = tables
        padded = all("sequence" in spec.shape for spec in interface.gives.values())
        self._lengths = lengths if padded else ()
        self._makers = makers
        self._made: dict[tuple[int, ...], tuple[SessionFunction, Mapping[str, Any]]] = {}

    def __call__(self, arrays: Arrays) -> Arrays:
        """See `Function`."""
        sizes = self._sizes(arrays)
        rows = [self._row(arrays, sizes, row) for row in range(sizes.get("batch", 1))]
        return {
            name: np.concatenate([row[name] for row in rows], spec.shape.index("batch"))
            if "batch" in spec.shape
            else rows[0][name]
            for name, spec in self._interface.gives.items()
        }

    def _sizes(self, arrays: Arrays) -> dict[str, int]:
        """What the sizes that have names are in a call."""
        return {
            name: size
            for array, spec in self._interface.takes.items()
            for name, size in zip(spec.shape, arrays[array].shape, strict=True)
            if isinstance(name, str)
        }

    def _row(self, arrays: Arrays, sizes: Mapping[str, int], row: int) -> Arrays:
        """Computes one of the sequences."""
        used = sizes.get("sequence", 1)
        length = next((length for length in self._lengths if length >= used), used)
        fed: dict[str, NDArray[Any]] = {}
        for name, spec in self._interface.takes.items():
            array = arrays[name]
            if "batch" in spec.shape:
                array = array.take([row], spec.shape.index("batch"))
            padded = ((0, (length - used) * (size == "sequence")) for size in spec.shape)
            fed[name] = np.pad(array, [*padded])
        function, types = self._function({**sizes, "batch": 1, "sequence": length})
        fed |= self._tables.rows(types, fed)
        fed[PADDING] = np.where(np.arange(length) < used, 0, MASKED)[None, None, None]
        made = function(fed)
        return {
            name: _cut(made[name], spec.shape, used) for name, spec in self._interface.gives.items()
        }

    def _function(self, sizes: Mapping[str, int]) -> tuple[SessionFunction, Mapping[str, Any]]:
        """What computes calls of some sizes, and the types of its inputs."""
        key = tuple(sizes.values())
        if key not in self._made:
            session = self._session(sizes)
            function = SessionFunction(session, self._interface, makers=self._makers)
            self._made[key] = function, input_types(session)
        return self._made[key]


def _cut(array: NDArray[Any], shape: Sequence[int | str], used: int) -> NDArray[Any]:
    """What was computed of tokens, without that of padding."""
    places = (slice(used) if size == "sequence" else slice(None) for size in shape)
    return array[tuple(places)]
