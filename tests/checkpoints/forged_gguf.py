"""Writes GGUF files byte by byte, so that any of them can be wrong."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import pytest

from pipelines.common.checkpoints.gguf.reader import open_gguf
from pipelines.common.errors import ModelFileError

UINT8, UINT16, UINT32, FLOAT32, BOOL, STRING, ARRAY, UINT64 = 0, 2, 4, 6, 7, 8, 9, 10
F32, Q4_0, IQ2_XXS = 0, 2, 16


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(data)) + data


def pair(key: str | bytes, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def array(kind: int, length: int, elements: bytes) -> bytes:
    return struct.pack("<IQ", kind, length) + elements


def u32(value: int) -> bytes:
    return struct.pack("<I", value)


def info(
    name: str | bytes, shape: Sequence[int] = (8,), encoding: int = F32, offset: int = 0
) -> bytes:
    """A tensor info; the shape is innermost first, as in the file."""
    return (
        text(name)
        + struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
        + struct.pack("<IQ", encoding, offset)
    )


def gguf(
    pairs: Sequence[bytes] = (),
    tensors: Sequence[bytes] = (),
    data: bytes = b"",
    *,
    magic: bytes = b"GGUF",
    version: int = 3,
    tensor_count: int | None = None,
    pair_count: int | None = None,
    alignment: int = 32,
) -> bytes:
    header = magic + struct.pack(
        "<IQQ",
        version,
        len(tensors) if tensor_count is None else tensor_count,
        len(pairs) if pair_count is None else pair_count,
    )
    header += b"".join(pairs) + b"".join(tensors)
    return header + bytes(-len(header) % alignment) + data


DATA = bytes(range(64))


def write(folder: Path, data: bytes) -> Path:
    path = folder / "model.gguf"
    path.write_bytes(data)
    return path


def failure(path: Path) -> str:
    """The message that opening `path` fails with."""
    with pytest.raises(ModelFileError) as raised:
        open_gguf(path)
    message = str(raised.value)
    assert str(path) in message
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


ONE = info("a", (8,))
