"""Weights as the native kernels read them: blocks of sixteen rows in tiles."""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipelines.common.checkpoints.pages import allocate
from pipelines.common.encodings import Encoding
from pipelines.common.op_packages.manifest import read_manifest

ROWS = 16
"""Rows of a tile."""


def shape(encoding: Encoding, rows: int, columns: int) -> tuple[int, int]:
    """The shape of a matrix's tiles: groups of `ROWS` rows, and the bytes of one.

    Raises:
        ValueError: The encoding has no blocks, or they do not divide the columns.
    """
    group_bytes: int = _library().native_group_bytes(encoding.ggml_type, columns)
    if not group_bytes:
        raise ValueError(f"{encoding} has no tiles of {columns} columns")
    return -(-rows // ROWS), group_bytes


def tiles(encoding: Encoding, stored: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Packs a matrix, on all cores.

    Args:
        encoding: What it is in.
        stored: Its bytes as files have them, ``[rows, row_bytes]``. Pages of a mapped file are
            given back as they are read.

    Returns:
        Its tiles, in the `shape` of them; they take as many bytes as the blocks do, but for what
        fills up the last ones.

    Raises:
        ValueError: The encoding has no blocks.
    """
    stored = np.ascontiguousarray(stored)
    rows, columns = len(stored), encoding.row_length(stored.shape[1])
    packed = allocate(shape(encoding, rows, columns), np.uint8)
    _library().native_pack(
        encoding.ggml_type, stored.ctypes.data, rows, columns, packed.ctypes.data
    )
    return packed


@functools.cache
def _library() -> ctypes.CDLL:
    """The package's library, whose operators take the tiles; it was found when the rules were."""
    path = read_manifest(Path(__file__).parent).find_library()
    assert path is not None
    library = ctypes.CDLL(str(path))
    number, memory = ctypes.c_int64, ctypes.c_void_p
    library.native_group_bytes.argtypes = [number, number]
    library.native_group_bytes.restype = number
    library.native_pack.argtypes = [number, memory, number, number, memory]
    library.native_pack.restype = None
    return library
