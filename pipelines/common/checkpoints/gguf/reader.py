"""A strict reader of GGUF files, little-endian versions 2 and 3, whole or in parts.

Layout: header, key-value pairs, tensor infos, padding to the alignment, tensor data. Specification:
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines.common.cache import Cache, digest
from pipelines.common.cache.digests import Digests
from pipelines.common.checkpoints.checkpoint import Metadata, TensorInfo
from pipelines.common.checkpoints.gguf.header import Header, read_header
from pipelines.common.checkpoints.gguf.rotation import INTERLEAVED
from pipelines.common.checkpoints.gguf.split import check_parts, parts_beside
from pipelines.common.checkpoints.model_file import ModelFile
from pipelines.common.checkpoints.opening import MAPPED, Opening
from pipelines.common.checkpoints.tokenizer_source import (
    MODEL,
    AnyTokenizer,
    TokenizerMaker,
    TokenizerSource,
)
from pipelines.common.encodings import advice
from pipelines.common.errors import ModelFileError, quoted


class _Part(NamedTuple):
    """A file, and what stands before its data."""

    file: ModelFile
    header: Header


class GGUFFile:
    """An opened GGUF file; implements `Checkpoint`. Make one with `open_gguf`.

    Args:
        path: The file that was named.
        parts: All files of the model, the one with its metadata first.
    """

    def __init__(self, path: Path, parts: Sequence[_Part]) -> None:
        first, count = parts[0], len(parts)
        self.path: Final = path
        self.format: Final = f"GGUF v{first.header.version}" + f", {count} files" * (count > 1)
        self.metadata: Final[Metadata] = first.header.metadata
        self.tensors: Final[dict[str, TensorInfo]] = {
            name: tensor for part in parts for name, tensor in part.header.tensors.items()
        }
        self._parts = parts
        self._files = {name: part.file for part in parts for name in part.header.tensors}

    @property
    def metadata_digest(self) -> str:
        """A digest of all metadata."""
        file, header = self._parts[0]
        return hashlib.blake2b(file.data[header.metadata_bytes], digest_size=16).hexdigest()

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
        fingerprint = self.metadata_digest
        return make(TokenizerSource(self.metadata, cache, fingerprint, str(self.path), notice))

    def fingerprint(self, digests: Digests) -> str:
        """See `Checkpoint.fingerprint`; a digest of the files' bytes."""
        found = [part.file.digest(digests) for part in self._parts]
        return found[0] if len(found) == 1 else digest(*found)

    def raw(self, name: str, rows: tuple[int, int] | None = None) -> NDArray[np.uint8]:
        """See `Checkpoint.raw`; mapped or read, as was asked for."""
        tensor = self.tensors[name]
        if not tensor.encoding.supported:
            raise ModelFileError(
                f"{self.path}: tensor {quoted(name)} is in an encoding that is only listed:"
                f" {advice(tensor.encoding)}"
            )
        return self._files[name].raw(tensor, rows)

    def release(self, name: str) -> None:
        """See `Checkpoint.release`."""
        self._files[name].release(self.tensors[name])


def open_gguf(path: Path, opening: Opening = MAPPED) -> GGUFFile:
    """Opens a GGUF file, and those beside it that it is a part with.

    All of it is checked but the values of tensors.

    Raises:
        ModelFileError: One cannot be read, is not GGUF, or is not sound; or they do not belong
            together.
    """
    named = _open_part(path, opening)
    paths = parts_beside(path, named.header.metadata)
    if len(paths) == 1:
        return GGUFFile(path, [named])
    parts = [named if each == path else _open_part(each, opening) for each in paths]
    check_parts(paths, [(part.header.metadata, part.header.tensors) for part in parts])
    return GGUFFile(path, parts)


def _open_part(path: Path, opening: Opening) -> _Part:
    file = ModelFile(path, opening.weights, "a GGUF file")
    return _Part(file, read_header(path, file.data))
