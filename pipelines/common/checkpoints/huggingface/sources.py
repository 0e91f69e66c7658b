"""Where a tensor comes from: a file's, as it is or in another form, or the config."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pipelines.common.checkpoints import pages
from pipelines.common.checkpoints.checkpoint import TensorInfo
from pipelines.common.checkpoints.model_file import ModelFile
from pipelines.common.encodings import F32
from pipelines.common.encodings.convert import dequantize

Rows = tuple[int, int] | None


class Source(Protocol):
    """Where a tensor comes from."""

    @property
    def info(self) -> TensorInfo:
        """What it is."""

    def raw(self, rows: Rows) -> NDArray[np.uint8]:
        """See `Checkpoint.raw`."""

    def release(self) -> None:
        """See `Checkpoint.release`."""


@dataclass(frozen=True)
class Stored:
    """A tensor of a file as it is."""

    file: ModelFile
    info: TensorInfo

    def raw(self, rows: Rows) -> NDArray[np.uint8]:
        """See `Source.raw`."""
        return self.file.raw(self.info, rows)

    def release(self) -> None:
        """See `Source.release`."""
        self.file.release(self.info)


@dataclass(frozen=True)
class Stacked:
    """Matrices of one shape, one after the other; those of a single one stay where they are."""

    info: TensorInfo
    parts: Sequence[Stored]

    def raw(self, rows: Rows) -> NDArray[np.uint8]:
        """See `Source.raw`; what is gathered is let go of in its files."""
        each = self.info.rows // len(self.parts)
        first, last = rows or (0, self.info.rows)
        one, start = divmod(first, each)
        if start + last - first <= each:
            return self.parts[one].raw((start, start + last - first))
        stack = pages.allocate((self.info.rows, self.info.nbytes // self.info.rows), np.uint8)
        for number, part in enumerate(self.parts):
            stack[number * each : (number + 1) * each] = part.raw(None)
            part.release()
        stack.flags.writeable = False
        return stack[first:last]

    def release(self) -> None:
        """See `Source.release`."""
        for part in self.parts:
            part.release()


@dataclass(frozen=True)
class Shifted:
    """The values of a vector, and a number added to each."""

    part: Stored
    offset: float

    @property
    def info(self) -> TensorInfo:
        """See `Source.info`."""
        info = self.part.info
        return replace(info, encoding=F32, offset=0, nbytes=F32.row_bytes(info.row_length))

    def raw(self, rows: Rows) -> NDArray[np.uint8]:
        """See `Source.raw`."""
        values = dequantize(self.part.info.encoding, self.part.raw(rows)) + np.float32(self.offset)
        return values.view(np.uint8)

    def release(self) -> None:
        """See `Source.release`."""
        self.part.release()


@dataclass(frozen=True)
class Said:
    """A vector that the config has the values of."""

    name: str
    values: tuple[float, ...]

    @property
    def info(self) -> TensorInfo:
        """See `Source.info`."""
        return TensorInfo(self.name, (len(self.values),), F32, 0, 4 * len(self.values))

    def raw(self, rows: Rows) -> NDArray[np.uint8]:  # noqa: ARG002 - a vector is one row
        """See `Source.raw`."""
        return np.array([self.values], np.float32).view(np.uint8)

    def release(self) -> None:
        """See `Source.release`."""
