"""How weight bytes are laid out for ONNX Runtime's block-quantized operators.

`MatMulNBits` and `GatherBlockQuantized` take unsigned codes and float32 scales, apart from each
other: a value is ``(code - 2**(bits-1)) * scale``. Every block format has an exact form of this
kind.

Source: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.common.checkpoints.pages import allocate
from pipelines.common.encodings.encodings import Encoding
from pipelines.common.parallel import for_row_chunks
from pipelines.common.program.package import Layout

Bytes = NDArray[np.uint8]
Blocks = NDArray[np.void]
Array = NDArray[Any]


def codes(encoding: Encoding, raw: Bytes) -> Bytes:
    """The codes of rows ``[rows, row_bytes]``: ``[rows, K / 2]`` at 4 bits, ``[rows, K]`` at 8."""
    length = encoding.row_length(raw.shape[1])
    four_bits = encoding.name in ("q4_0", "q4_1")
    out = allocate((raw.shape[0], length // 2 if four_bits else length), np.uint8)
    _by_blocks(_CODES[encoding.name], encoding, raw, out)
    return out


def scales(encoding: Encoding, raw: Bytes) -> NDArray[np.float32]:
    """The scale of every 32 elements (16 for q6_k): ``[rows, K / 32]``."""
    length = encoding.row_length(raw.shape[1])
    out = allocate((raw.shape[0], length // (16 if encoding.name == "q6_k" else 32)), np.float32)
    _by_blocks(_SCALES[encoding.name], encoding, raw, out)
    return out


def offsets(encoding: Encoding, raw: Bytes) -> NDArray[np.float32]:
    """What q4_1 adds to ``(code - 8) * scale``: ``m + 8 d`` a block, ``[rows, K / 32]``."""
    length = encoding.row_length(raw.shape[1])
    out = allocate((raw.shape[0], length // 32), np.float32)
    _by_blocks(_offsets_q4_1, encoding, raw, out)
    return out


def _by_blocks(
    work: Callable[[Blocks, Array], None], encoding: Encoding, raw: Bytes, out: Array
) -> None:
    """Calls `work` with the blocks of some rows, ``[n]``, and where to put their results."""
    blocks_a_row = raw.shape[1] // encoding.block_bytes

    def convert(rows: slice) -> None:
        blocks = raw[rows].reshape(-1).view(_BLOCKS[encoding.name])
        # Scales that are not finite are the file's own; they mean what they say.
        with np.errstate(over="ignore", invalid="ignore"):
            work(blocks, out[rows].reshape(len(blocks), out.shape[1] // blocks_a_row))

    for_row_chunks(raw.shape[0], encoding.row_length(raw.shape[1]), convert)


def _codes_4_bits(blocks: Blocks, out: Bytes) -> None:
    """Regroups nibbles from elements (i, i + 16) of a byte to elements (2i, 2i + 1).

    Two neighbouring bytes are read as one 16-bit word, whose low nibbles make one byte of the first
    half of the result and whose high nibbles one of the second.
    """
    words, nibbles, shifted = _scratch.words(len(blocks))
    pairs = shifted.view(np.uint8).reshape(-1, 8)[: len(blocks)]
    words.view("V16")[:, 0] = blocks["codes"]
    halves = out.view("V8")
    for half in range(2):
        np.bitwise_and(words, 0x0F0F, out=nibbles)
        np.right_shift(nibbles, 4, out=shifted)
        np.bitwise_or(nibbles, shifted, out=nibbles)
        np.copyto(pairs, nibbles, casting="unsafe")
        halves[:, half] = pairs.view("V8")[:, 0]
        np.right_shift(words, 4, out=words)


class _Scratch(threading.local):
    """Memory that a thread uses again for each chunk: new memory costs more than the arithmetic.

    The system hands out pages of zeros for every array of this size, which takes several times as
    long as what is then computed in it.
    """

    def __init__(self) -> None:
        self._words = np.empty((3, 0, 8), "<u2")

    def words(self, blocks: int) -> NDArray[np.uint16]:
        """Three arrays of eight 16-bit words a block."""
        if self._words.shape[1] < blocks:
            self._words = np.empty((3, blocks, 8), "<u2")
        return self._words[:, :blocks]


_scratch = _Scratch()


def _codes_q8_0(blocks: Blocks, out: Bytes) -> None:
    out.view("V32")[:, 0] = blocks["codes"]
    np.bitwise_xor(out, 0x80, out=out)


def _codes_q6_k(blocks: Blocks, out: Bytes) -> None:
    """Puts codes together from four bits and two, and moves their middle from 32 to 128.

    A block has two halves of four quarters. Quarters 0 and 1 are the low nibbles of 32 bytes each,
    2 and 3 the high ones; a byte has the upper bits of one element of each quarter.
    """
    low = np.ascontiguousarray(blocks["low"]).view("V32").reshape(-1, 2)
    low_bits = [np.ascontiguousarray(low[:, i]).view(np.uint64) for i in range(2)]
    high_bits = np.ascontiguousarray(blocks["high"]).view(np.uint64)
    quarters = out.view("V32").reshape(-1, 4)
    for quarter in range(4):
        values = low_bits[quarter % 2] >> (4 * (quarter // 2))
        values &= _EACH_BYTE * 0x0F
        upper = high_bits >> (2 * quarter)
        upper &= _EACH_BYTE * 0x03
        upper <<= 4
        values |= upper
        values += _EACH_BYTE * (128 - 32)
        quarters[:, quarter] = values.view("V32")


def _scales_of_blocks(blocks: Blocks, out: NDArray[np.float32]) -> None:
    out[:, 0] = blocks["d"]


def _scales_q6_k(blocks: Blocks, out: NDArray[np.float32]) -> None:
    factors = blocks["d"].astype(np.float32)
    np.multiply(blocks["scales"], factors[:, None], out=out)


def _offsets_q4_1(blocks: Blocks, out: NDArray[np.float32]) -> None:
    out[:, 0] = blocks["d"]
    out *= 8
    out[:, 0] += blocks["m"]


_EACH_BYTE = np.uint64(0x0101010101010101)

# Codes are opaque runs of bytes: NumPy copies whole ones many times faster than rows of elements.
_BLOCKS = {
    "q4_0": np.dtype([("d", "<f2"), ("codes", "V16")]),
    "q4_1": np.dtype([("d", "<f2"), ("m", "<f2"), ("codes", "V16")]),
    "q8_0": np.dtype([("d", "<f2"), ("codes", "V32")]),
    "q6_k": np.dtype([("low", "V128"), ("high", "V64"), ("scales", "i1", 16), ("d", "<f2")]),
}
_CODES: dict[str, Callable[[Blocks, Array], None]] = {
    "q4_0": _codes_4_bits,
    "q4_1": _codes_4_bits,
    "q8_0": _codes_q8_0,
    "q6_k": _codes_q6_k,
}
_SCALES: dict[str, Callable[[Blocks, Array], None]] = {
    "q4_0": _scales_of_blocks,
    "q4_1": _scales_of_blocks,
    "q8_0": _scales_of_blocks,
    "q6_k": _scales_q6_k,
}

LAYOUTS: Mapping[str, Layout] = {
    "codes": codes,
    "codes_by_row": codes,
    "scales": scales,
    "offsets": offsets,
}
"""The layouts that `pipelines.common.ort.emit` asks for."""
