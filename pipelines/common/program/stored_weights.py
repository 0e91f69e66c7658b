"""Tensors of a lowered graph in a file, mapped as they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from pipelines.common.checkpoints.mapped import map_file
from pipelines.common.errors import ModelFileError
from pipelines.common.graph.rules import LoweredWeight, element_type
from pipelines.common.program.external import Place
from pipelines.common.program.tensors import Made


class StoredWeights:
    """The tensors of a file that `external.write_tensors` has written.

    Args:
        path: The file.
        places: Where each tensor is in it, by name.
        nbytes: Its size.
        fingerprint: Its digest.

    Attributes:
        total_bytes: Bytes of all tensors, shared ones counted once.
        fingerprint: See above.

    Raises:
        ModelFileError: The file cannot be read.
    """

    def __init__(
        self, path: Path, places: Mapping[str, Place], nbytes: int, fingerprint: str
    ) -> None:
        self._places = places
        try:
            with path.open("rb") as file:
                self._file = map_file(path, file, nbytes)
        except OSError as error:
            raise ModelFileError(f"{path} cannot be read: {error.strerror}") from error
        self.fingerprint = fingerprint
        self.total_bytes = sum(place.nbytes for place in set(places.values()))

    def place(self, weight: LoweredWeight) -> tuple[Place, str]:
        """Where a tensor is, and what of; equal for those that share their memory."""
        return self._places[weight.name], weight.dtype

    def tensors(self, weights: Sequence[LoweredWeight]) -> Iterator[Made]:
        """Views of the file, those that share their memory together."""
        alike: dict[tuple[Place, str], list[LoweredWeight]] = {}
        for weight in weights:
            alike.setdefault(self.place(weight), []).append(weight)
        for (place, dtype), wanted in alike.items():
            kind = element_type(dtype)
            count = place.nbytes // kind.itemsize
            yield wanted, np.frombuffer(self._file, kind, count, offset=place.offset)
