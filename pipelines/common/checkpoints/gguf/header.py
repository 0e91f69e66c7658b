"""Reads what stands before the data of a GGUF file: counts, metadata and tensor infos.

Nothing in the file is believed. A count is compared with the bytes that are left before anything
of that size is touched; every tensor must lie inside the file, aligned, apart from all others.
Arrays of metadata stay in the mapped file until somebody asks for them, so that opening a file
with a vocabulary of 128k tokens takes some tens of milliseconds.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from operator import attrgetter
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from pipelines.common.checkpoints.checkpoint import (
    FOREIGN,
    Metadata,
    MetadataArray,
    Scalar,
    TensorInfo,
)
from pipelines.common.encodings import GGML_TYPES
from pipelines.common.errors import ModelFileError, quoted

MAGIC: Final = b"GGUF"
"""The first bytes of a GGUF file."""

_STRANGERS: Final[Mapping[bytes, str]] = {
    b"version https://git-lfs": "it is Git LFS's pointer to one; fetch that with git lfs pull",
    **dict.fromkeys(
        (b"lmgg", b"fmgg", b"tjgg"), "it is of ggml's formats before that; convert the model again"
    ),
}
"""What is often taken for GGUF, by its first bytes."""
_VERSIONS: Final = (2, 3)
_DEFAULT_ALIGNMENT: Final = 32
_MAX_DIMENSIONS: Final = 4
_MAX_NAME_BYTES: Final = 65535
# Not in the specification; far above what models need, and low enough to be read in a moment.
_MAX_ENTRIES: Final = 1 << 16
_MAX_VALUE_BYTES: Final = 1 << 27
_U32: Final = struct.Struct("<I")
_U64: Final = struct.Struct("<Q")

_STRING: Final = 8
_ARRAY: Final = 9


@dataclass(frozen=True)
class _ScalarType:
    """A fixed-size metadata type: how `struct` and NumPy read it, and what it is in Python."""

    code: str
    python: type[Scalar]


_SCALARS: Final[Mapping[int, _ScalarType]] = {
    0: _ScalarType("<B", int),
    1: _ScalarType("<b", int),
    2: _ScalarType("<H", int),
    3: _ScalarType("<h", int),
    4: _ScalarType("<I", int),
    5: _ScalarType("<i", int),
    6: _ScalarType("<f", float),
    7: _ScalarType("<B", bool),
    10: _ScalarType("<Q", int),
    11: _ScalarType("<q", int),
    12: _ScalarType("<d", float),
}

# Shortest encodings: an empty key with a one-byte value, an unnamed tensor of no dimensions.
_MIN_PAIR_BYTES: Final = 8 + 4 + 1
_MIN_TENSOR_BYTES: Final = 8 + 4 + 4 + 8


class Header(NamedTuple):
    """What stands before the data.

    Attributes:
        version: Of the format.
        metadata: The key-value pairs.
        metadata_bytes: Where they are in the file.
        tensors: Every tensor by name, in file order.
    """

    version: int
    metadata: Metadata
    metadata_bytes: slice
    tensors: Mapping[str, TensorInfo]


def read_header(path: Path, data: mmap.mmap) -> Header:
    """Reads and checks all of a mapped file but the values of its tensors.

    Raises:
        ModelFileError: It is not GGUF, or is not sound.
    """
    cursor = _Cursor(path, data)
    version = _read_version(cursor)
    tensor_count = cursor.u64("number of tensors")
    pair_count = cursor.u64("number of metadata keys")
    if tensor_count * _MIN_TENSOR_BYTES + pair_count * _MIN_PAIR_BYTES > cursor.left:
        raise cursor.error(
            f"claims {tensor_count} tensors and {pair_count} metadata keys, more than its "
            f"{cursor.end} bytes can hold"
        )
    if max(tensor_count, pair_count) > _MAX_ENTRIES:
        raise cursor.error(
            f"has {tensor_count} tensors and {pair_count} metadata keys, expected at most "
            f"{_MAX_ENTRIES} of each"
        )
    start = cursor.position
    metadata = Metadata(path, _read_pairs(cursor, pair_count))
    metadata_bytes = slice(start, cursor.position)
    alignment = _alignment(path, metadata)
    tensors = _read_tensors(cursor, tensor_count, alignment)
    _check_regions(path, tensors.values(), cursor.end)
    return Header(version, metadata, metadata_bytes, tensors)


class _Cursor:
    """Reads a mapped file from front to back and never past its end."""

    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self.path: Final = path
        self.data: Final = data
        self.end: Final = len(data)
        self.position = 0

    @property
    def left(self) -> int:
        """Bytes not read yet."""
        return self.end - self.position

    def error(self, message: str) -> ModelFileError:
        return ModelFileError(f"{self.path}: {message}")

    def skip(self, size: int, what: str, limit: int = _MAX_VALUE_BYTES) -> int:
        """Steps over `size` bytes that hold `what`, at most `limit`; returns where they start."""
        if size > self.left:
            raise self.error(
                f"is truncated or damaged: {what} takes {size} bytes, {self.left} are left"
            )
        if size > limit:
            raise self.error(f"{what} takes {size} bytes, expected at most {limit}")
        start = self.position
        self.position += size
        return start

    def scalar(self, code: struct.Struct, what: str) -> Any:
        return code.unpack_from(self.data, self.skip(code.size, what))[0]

    def u32(self, what: str) -> int:
        value: int = self.scalar(_U32, what)
        return value

    def u64(self, what: str) -> int:
        value: int = self.scalar(_U64, what)
        return value

    def text(self, what: str, limit: int) -> str:
        size = self.u64(f"length of {what}")
        start = self.skip(size, what, limit)
        return self.data[start : self.position].decode(errors=FOREIGN)


def _read_version(cursor: _Cursor) -> int:
    magic = cursor.data[: len(MAGIC)]
    if magic != MAGIC:
        raise cursor.error(f"is not a GGUF file: {_told_apart(cursor.data, magic)}")
    cursor.skip(len(MAGIC), "magic")
    version = cursor.u32("version")
    if version in _VERSIONS:
        return version
    if int.from_bytes(version.to_bytes(4, "little"), "big") in _VERSIONS:
        raise cursor.error("is a big-endian GGUF file, expected a little-endian one")
    advice = "; convert the model again" if version == 1 else ""
    raise cursor.error(f"is GGUF version {version}, expected version 2 or 3{advice}")


def _told_apart(data: mmap.mmap, magic: bytes) -> str:
    """What a file with another magic is."""
    for start, stranger in _STRANGERS.items():
        if data[: len(start)] == start:
            return stranger
    return f"starts with {magic!r}, expected {MAGIC!r}"


def _read_pairs(cursor: _Cursor, count: int) -> dict[str, Scalar | MetadataArray]:
    pairs: dict[str, Scalar | MetadataArray] = {}
    for _ in range(count):
        key = cursor.text("a metadata key", _MAX_NAME_BYTES)
        if key in pairs:
            raise cursor.error(f"has metadata key {quoted(key)} twice")
        what = f"metadata key {quoted(key)}"
        pairs[key] = _read_value(cursor, cursor.u32(f"type of {what}"), what)
    return pairs


def _read_value(cursor: _Cursor, kind: int, what: str) -> Scalar | MetadataArray:
    if kind == _STRING:
        return cursor.text(what, _MAX_VALUE_BYTES)
    if kind == _ARRAY:
        return _read_array(cursor, what)
    scalar = _scalar_type(cursor, kind, what)
    return scalar.python(cursor.scalar(struct.Struct(scalar.code), what))


def _read_array(cursor: _Cursor, what: str) -> MetadataArray:
    kind = cursor.u32(f"element type of {what}")
    length = cursor.u64(f"length of {what}")
    if kind == _ARRAY:
        raise cursor.error(f"{what} is an array of arrays, expected strings or numbers")
    if kind == _STRING:
        start = cursor.position
        _skip_strings(cursor, length, what)
        return MetadataArray(str, length, partial(_decode_strings, cursor.data, start, length))
    scalar = _scalar_type(cursor, kind, what)
    dtype = np.dtype(scalar.code)
    start = cursor.skip(length * dtype.itemsize, what)
    values = np.frombuffer(cursor.data, dtype, length, start)
    if scalar.python is bool:
        return MetadataArray(bool, length, lambda _: (values != 0).tolist())
    return MetadataArray(scalar.python, length, lambda _: values.tolist())


def _scalar_type(cursor: _Cursor, kind: int, what: str) -> _ScalarType:
    try:
        return _SCALARS[kind]
    except KeyError:
        raise cursor.error(f"{what} has the unknown type {kind}") from None


def _skip_strings(cursor: _Cursor, count: int, what: str) -> None:
    """Steps over an array of strings; half a million take some 40 ms."""
    end = cursor.position + min(cursor.left, _MAX_VALUE_BYTES)
    data, position, last = cursor.data, cursor.position, end - _U64.size
    if count * _U64.size > end - position:
        raise cursor.error(
            f"is truncated or damaged: {what} claims {count} strings in {cursor.left} bytes"
        )
    unpack_from = _U64.unpack_from
    for _ in range(count):
        if position > last:
            raise cursor.error(f"is truncated or damaged: {what} takes too many bytes")
        position += _U64.size + unpack_from(data, position)[0]
    cursor.skip(position - cursor.position, what)


def _decode_strings(data: mmap.mmap, position: int, count: int, errors: str) -> list[str]:
    strings: list[str] = []
    unpack_from = _U64.unpack_from
    for index in range(count):
        start = position + _U64.size
        position = start + unpack_from(data, position)[0]
        try:
            strings.append(data[start:position].decode(errors=errors))
        except UnicodeDecodeError:
            raise ValueError(f"string {index} is not UTF-8") from None
    return strings


def _alignment(path: Path, metadata: Metadata) -> int:
    alignment = metadata.integer("general.alignment", _DEFAULT_ALIGNMENT)
    if alignment < 1 or alignment & (alignment - 1):
        raise ModelFileError(f"{path}: has an alignment of {alignment}, expected a power of two")
    return alignment


def _read_tensors(cursor: _Cursor, count: int, alignment: int) -> dict[str, TensorInfo]:
    """Reads tensor infos; their offsets count from the first aligned byte after the last info."""
    relative: dict[str, TensorInfo] = {}
    for _ in range(count):
        tensor = _read_tensor(cursor)
        if tensor.name in relative:
            raise cursor.error(f"has tensor {quoted(tensor.name)} twice")
        if tensor.offset % alignment:
            raise cursor.error(
                f"tensor {quoted(tensor.name)} has offset {tensor.offset}, expected a multiple of "
                f"the alignment, {alignment}"
            )
        relative[tensor.name] = tensor
    start = -(-cursor.position // alignment) * alignment
    return {
        name: replace(tensor, offset=start + tensor.offset) for name, tensor in relative.items()
    }


def _read_tensor(cursor: _Cursor) -> TensorInfo:
    name = cursor.text("a tensor name", _MAX_NAME_BYTES)
    what = f"tensor {quoted(name)}"
    dimensions = cursor.u32(f"number of dimensions of {what}")
    if not 1 <= dimensions <= _MAX_DIMENSIONS:
        raise cursor.error(f"{what} has {dimensions} dimensions, expected 1 to {_MAX_DIMENSIONS}")
    innermost_first = [cursor.u64(f"shape of {what}") for _ in range(dimensions)]
    if 0 in innermost_first:
        raise cursor.error(f"{what} has the shape {innermost_first}, expected no zeros")
    ggml_type = cursor.u32(f"type of {what}")
    offset = cursor.u64(f"offset of {what}")
    encoding = GGML_TYPES.get(ggml_type)
    if encoding is None:
        raise cursor.error(
            f"{what} is in encoding number {ggml_type}, which is newer than this program; use a"
            " newer version of it, or a file of the model in another encoding"
        )
    row_length, *outer = innermost_first
    if row_length % encoding.block_size:
        raise cursor.error(
            f"{what} has rows of {row_length} elements, expected a multiple of {encoding}'s block "
            f"of {encoding.block_size}"
        )
    nbytes = math.prod(outer) * encoding.row_bytes(row_length)
    return TensorInfo(name, tuple(reversed(innermost_first)), encoding, offset, nbytes)


def _check_regions(path: Path, tensors: Iterable[TensorInfo], end: int) -> None:
    """Checks that every tensor lies inside the file and apart from the others."""
    ordered = sorted(tensors, key=attrgetter("offset"))
    for tensor in ordered:
        if tensor.offset + tensor.nbytes > end:
            raise ModelFileError(
                f"{path}: is truncated or damaged: tensor {quoted(tensor.name)} ends at byte "
                f"{tensor.offset + tensor.nbytes}, the file has {end}"
            )
    for tensor, following in pairwise(ordered):
        if tensor.offset + tensor.nbytes > following.offset:
            raise ModelFileError(
                f"{path}: tensors {quoted(tensor.name)} and {quoted(following.name)} overlap"
            )
