"""How weight bytes are laid out for ONNX Runtime's block-quantized operators on the CPU.

`MatMulNBits` and `GatherBlockQuantized` take unsigned codes and float32 scales, apart from each
other: a value is ``(code - 2**(bits-1)) * scale``. Every block format has an exact form of this
kind.

Source: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.common.weights.encodings import Encoding
from pipelines.common.weights.parallel import for_row_chunks

Bytes = NDArray[np.uint8]
Array = NDArray[Any]


def codes(encoding: Encoding, raw: Bytes) -> Bytes:
    """The codes of rows ``[rows, row_bytes]``: ``[rows, K / 2]`` at 4 bits, ``[rows, K]`` at 8."""
    length = encoding.row_length(raw.shape[1])
    four_bits = encoding.name in ("q4_0", "q4_1")
    out = np.empty((raw.shape[0], length // 2 if four_bits else length), np.uint8)
    _by_blocks(_CODES[encoding.name], encoding, raw, out)
    return out


def scales(encoding: Encoding, raw: Bytes) -> NDArray[np.float32]:
    """The scale of every 32 elements (16 for q6_k): ``[rows, K / 32]``."""
    length = encoding.row_length(raw.shape[1])
    out = np.empty((raw.shape[0], length // (16 if encoding.name == "q6_k" else 32)), np.float32)
    _by_blocks(_SCALES[encoding.name], encoding, raw, out)
    return out


def offsets(encoding: Encoding, raw: Bytes) -> NDArray[np.float32]:
    """What q4_1 adds to ``(code - 8) * scale``: ``m + 8 d`` a block, ``[rows, K / 32]``."""
    length = encoding.row_length(raw.shape[1])
    out = np.empty((raw.shape[0], length // 32), np.float32)
    _by_blocks(_offsets_q4_1, encoding, raw, out)
    return out


def _by_blocks(
    work: Callable[[Bytes, Array], None], encoding: Encoding, raw: Bytes, out: Array
) -> None:
    """Calls `work` with the blocks ``[n, block_bytes]`` of some rows and where their results go."""
    blocks_a_row = raw.shape[1] // encoding.block_bytes

    def convert(rows: slice) -> None:
        blocks = raw[rows].reshape(-1, encoding.block_bytes)
        work(blocks, out[rows].reshape(len(blocks), out.shape[1] // blocks_a_row))

    for_row_chunks(raw.shape[0], encoding.row_length(raw.shape[1]), convert)


def _pair_nibbles(blocks: Bytes, start: int, out: Bytes) -> None:
    """Regroups nibbles from elements (i, i + 16) of a byte to elements (2i, 2i + 1).

    Two neighbouring bytes are read as one 16-bit word, whose low nibbles make one byte of the first
    half of the result and whose high nibbles one of the second.
    """
    words = np.ascontiguousarray(blocks[:, start : start + 16]).view("<u2")
    low = words & 0x0F0F
    low |= low >> 4
    words >>= 4
    words &= 0x0F0F
    words |= words >> 4
    out[:, :8] = low.astype(np.uint8)
    out[:, 8:] = words.astype(np.uint8)


def _codes_q4_0(blocks: Bytes, out: Bytes) -> None:
    _pair_nibbles(blocks, 2, out)


def _codes_q4_1(blocks: Bytes, out: Bytes) -> None:
    _pair_nibbles(blocks, 4, out)


def _codes_q8_0(blocks: Bytes, out: Bytes) -> None:
    np.bitwise_xor(blocks[:, 2:], 0x80, out=out)


def _codes_q6_k(blocks: Bytes, out: Bytes) -> None:
    """Each half of a block has 64 bytes of low nibbles, and 32 bytes of four 2-bit pairs."""
    values = out.reshape(-1, 2, 4, 32)
    low = blocks[:, :128].reshape(-1, 2, 2, 32)
    high = blocks[:, 128:192].reshape(-1, 2, 32)
    values[:, :, :2] = low & 0x0F
    values[:, :, 2:] = low >> 4
    for quarter in range(4):
        values[:, :, quarter] |= ((high >> (2 * quarter)) & 3) << 4
    values += 128 - 32


def _halves(blocks: Bytes, start: int) -> NDArray[np.float32]:
    """The little-endian binary16 at byte `start` of every block, ``[n, 1]``."""
    return np.ascontiguousarray(blocks[:, start : start + 2]).view("<f2").astype(np.float32)


def _first_half(blocks: Bytes, out: NDArray[np.float32]) -> None:
    out[:] = _halves(blocks, 0)


def _scales_q6_k(blocks: Bytes, out: NDArray[np.float32]) -> None:
    np.multiply(blocks[:, 192:208].view(np.int8), _halves(blocks, 208), out=out)


def _offsets_q4_1(blocks: Bytes, out: NDArray[np.float32]) -> None:
    out[:] = _halves(blocks, 2) + 8 * _halves(blocks, 0)


_CODES: dict[str, Callable[[Bytes, Array], None]] = {
    "q4_0": _codes_q4_0,
    "q4_1": _codes_q4_1,
    "q8_0": _codes_q8_0,
    "q6_k": _codes_q6_k,
}
_SCALES: dict[str, Callable[[Bytes, Array], None]] = {
    "q4_0": _first_half,
    "q4_1": _first_half,
    "q8_0": _first_half,
    "q6_k": _scales_q6_k,
}
