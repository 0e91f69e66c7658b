"""A file that tensors are in: parts of it as bytes, mapped or read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from pipelines.common.cache.digests import Digests, OpenFile
from pipelines.common.checkpoints import pages
from pipelines.common.checkpoints.checkpoint import TensorInfo, open_file
from pipelines.common.checkpoints.mapped import cut_short, map_file
from pipelines.common.checkpoints.opening import Strategy
from pipelines.common.errors import ModelFileError
from pipelines.common.parallel import for_row_chunks

_WORD: Final = 8
"""Tensors are handed out at multiples of it, as most files have them."""

_READ_BYTES: Final = 1 << 22
"""What one thread reads at once."""


class ModelFile:
    """A regular file that stays open; its name may come to mean another.

    Attributes:
        path: Where it is.
        data: The file, mapped: for what stands before the tensors.

    Args:
        path: Where it is.
        weights: How tensors come into memory.
        expected: What it should be, for messages: ``a GGUF file``.

    Raises:
        ModelFileError: There is none, it is empty, or it cannot be read.
    """

    def __init__(self, path: Path, weights: Strategy, expected: str) -> None:
        self.path: Final = path
        with open_file(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size == 0:
                raise ModelFileError(f"{path}: is empty, expected {expected}")
            try:
                self.data: Final = map_file(path, file, size)
                self._open = OpenFile(file)
            except OSError as error:
                raise ModelFileError(f"{path}: cannot be read: {error.strerror}") from error
        self._mapped: Final[NDArray[np.uint8]] = np.frombuffer(self.data, np.uint8)
        self._read: WeakValueDictionary[tuple[int, int], NDArray[np.uint8]] | None = (
            WeakValueDictionary() if weights == "heap" else None
        )

    def raw(self, tensor: TensorInfo, rows: tuple[int, int] | None = None) -> NDArray[np.uint8]:
        """The bytes of a tensor of it, see `Checkpoint.raw`.

        What is read is the same array for all who ask, while somebody holds it.

        Raises:
            ModelFileError: The file has become shorter, or cannot be read.
        """
        first, last = rows or (0, tensor.rows)
        row_bytes = tensor.nbytes // tensor.rows
        start, nbytes = tensor.offset + first * row_bytes, (last - first) * row_bytes
        if self._read is None:
            part = self._mapped[start : start + nbytes]
            if tensor.offset % _WORD:
                # The file's own alignment is less; its numbers could not be read where they are.
                part = part.copy()
                part.flags.writeable = False
        else:
            read = self._read.get((start, nbytes))
            part = self._from_disk(start, nbytes) if read is None else read
            self._read[start, nbytes] = part
        return part.reshape(last - first, row_bytes)

    def release(self, tensor: TensorInfo) -> None:
        """Gives back the memory that reading a tensor took; it can be read again."""
        if self._read is None:  # what was read is given back with the last array of it
            pages.release(self.data, tensor.offset, tensor.nbytes)

    def digest(self, digests: Digests) -> str:
        """A digest of its bytes.

        Raises:
            ModelFileError: It cannot be read.
        """
        try:
            return digests.of(self._open.descriptor)
        except OSError as error:
            raise ModelFileError(f"{self.path}: cannot be read: {error.strerror}") from error

    def _from_disk(self, offset: int, nbytes: int) -> NDArray[np.uint8]:
        part: NDArray[np.uint8] = pages.allocate((nbytes,), np.uint8)

        def read(chunk: slice) -> None:
            left = memoryview(part.data)[chunk.start * _READ_BYTES : chunk.stop * _READ_BYTES]
            at = offset + chunk.start * _READ_BYTES
            while left:
                count = os.preadv(self._open.descriptor, [left], at)
                if not count:
                    raise ModelFileError(cut_short(self.path))
                left, at = left[count:], at + count

        try:
            for_row_chunks(-(-nbytes // _READ_BYTES), _READ_BYTES, read)
        except OSError as error:
            raise ModelFileError(f"{self.path}: cannot be read: {error.strerror}") from error
        part.flags.writeable = False
        return part
