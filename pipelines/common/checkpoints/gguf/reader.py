"""A strict reader of GGUF files, little-endian versions 2 and 3.

Layout: header, key-value pairs, tensor infos, padding to the alignment, tensor data. Specification:
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipelines.common.cache import Cache
from pipelines.common.cache.digests import Digests, OpenFile
from pipelines.common.checkpoints import pages
from pipelines.common.checkpoints.checkpoint import Metadata, TensorInfo, open_file
from pipelines.common.checkpoints.gguf.header import read_header
from pipelines.common.checkpoints.gguf.rotation import INTERLEAVED
from pipelines.common.checkpoints.mapped import map_file
from pipelines.common.checkpoints.tokenizer_source import (
    MODEL,
    AnyTokenizer,
    TokenizerMaker,
    TokenizerSource,
)
from pipelines.common.encodings import advice
from pipelines.common.errors import ModelFileError, quoted

_WORD: Final = 8
"""Tensors are handed out at multiples of it, as most files have them."""


class GGUFFile:
    """An opened GGUF file; implements `Checkpoint`. Make one with `open_gguf`."""

    def __init__(
        self,
        path: Path,
        data: mmap.mmap,
        file: OpenFile,
        version: int,
        metadata: Metadata,
        metadata_bytes: slice,
        tensors: Mapping[str, TensorInfo],
    ) -> None:
        self.path: Final = path
        self.format: Final = f"GGUF v{version}"
        self.metadata: Final = metadata
        self.tensors: Final = tensors
        self._mapping = data
        self._data: Final[NDArray[np.uint8]] = np.frombuffer(data, np.uint8)
        self._metadata_bytes = metadata_bytes
        self._file = file

    @property
    def metadata_digest(self) -> str:
        """A digest of all metadata."""
        return hashlib.blake2b(self._data[self._metadata_bytes].data, digest_size=16).hexdigest()

    @property
    def interleaved(self) -> bool:
        """See `Checkpoint.interleaved`."""
        return self.metadata.string("general.architecture", "") in INTERLEAVED

    @property
    def has_tokenizer(self) -> bool:
        """See `Checkpoint.has_tokenizer`."""
        return MODEL in self.metadata

    def tokenizer(
        self, cache: Cache, notice: Callable[[str], None], make: TokenizerMaker
    ) -> AnyTokenizer:
        """See `Checkpoint.tokenizer`."""
        digest = self.metadata_digest
        return make(TokenizerSource(self.metadata, cache, digest, str(self.path), notice))

    def fingerprint(self, digests: Digests) -> str:
        """See `Checkpoint.fingerprint`; a digest of the file's bytes."""
        try:
            return digests.of(self._file.descriptor)
        except OSError as error:
            raise ModelFileError(f"{self.path}: cannot be read: {error.strerror}") from error

    def raw(self, name: str) -> NDArray[np.uint8]:
        """A tensor's bytes, mapped and read-only, shape ``[rows, row_bytes]``.

        Raises:
            ModelFileError: The tensor's encoding cannot be run.
        """
        tensor = self.tensors[name]
        if not tensor.encoding.supported:
            raise ModelFileError(
                f"{self.path}: tensor {quoted(name)} is in an encoding that is only listed:"
                f" {advice(tensor.encoding)}"
            )
        raw = self._data[tensor.offset : tensor.offset + tensor.nbytes]
        if tensor.offset % _WORD:
            # The file's own alignment is less; its numbers could not be read where they are.
            raw = raw.copy()
            raw.flags.writeable = False
        return raw.reshape(tensor.rows, -1)

    def release(self, name: str) -> None:
        """Gives back the memory that reading a tensor's bytes took; they can be read again."""
        tensor = self.tensors[name]
        pages.release(self._mapping, tensor.offset, tensor.nbytes)


def open_gguf(path: Path) -> GGUFFile:
    """Maps a GGUF file and checks all of it but the values of its tensors.

    Raises:
        ModelFileError: It cannot be read, is not GGUF, or is not sound.
    """
    data, file = _map(path)
    header = read_header(path, data)
    return GGUFFile(
        path,
        data,
        file,
        header.version,
        header.metadata,
        header.metadata_bytes,
        header.tensors,
    )


def _map(path: Path) -> tuple[mmap.mmap, OpenFile]:
    """Maps a regular file read-only, and keeps it open."""
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size == 0:
            raise ModelFileError(f"{path}: is empty, expected a GGUF file")
        try:
            return map_file(path, file, size), OpenFile(file)
        except OSError as error:
            raise ModelFileError(f"{path}: cannot be read: {error.strerror}") from error
