"""Encoding rows of float32, bit for bit as ggml's reference does."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipelines.common.encodings.encodings import Q4_0, Q8_0, Encoding, dequantize_into
from pipelines.common.parallel import for_row_chunks


def quantize(encoding: Encoding, values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Encodes rows in parallel.

    Args:
        encoding: A supported encoding other than ``q6_k``, which the reference cannot write.
        values: Shape ``[rows, K]``, K a multiple of the encoding's block size.

    Returns:
        Bytes, shape ``[rows, row_bytes]``.

    Raises:
        ValueError: K is not a multiple of the block size.
    """
    rows, k = values.shape
    raw = np.empty((rows, encoding.row_bytes(k)), np.uint8)

    def work(chunk: slice) -> None:
        raw[chunk] = quantize_rows(encoding, values[chunk])

    for_row_chunks(rows, k, work)
    return raw


def quantize_rows(encoding: Encoding, values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Encodes `values` ``[rows, K]`` as ``[rows, row_bytes]``, on this thread."""
    from gguf.constants import GGMLQuantizationType
    from gguf.quants import quantize as gguf_quantize

    # Blocks of tiny or huge values overflow on the way, in ggml as here.
    with np.errstate(all="ignore"):
        return gguf_quantize(values, GGMLQuantizationType(encoding.ggml_type)).view(np.uint8)


def convert_rows(stored: Encoding, wanted: Encoding, raw: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Encodes rows ``[rows, row_bytes]`` anew, on this thread; without loss where that can be."""
    if (stored, wanted) == (Q4_0, Q8_0):
        return _q4_0_to_q8_0(raw)
    rows, row_bytes = raw.shape
    values = np.empty((rows, stored.row_length(row_bytes)), np.float32)
    dequantize_into(stored, raw, values)
    return quantize_rows(wanted, values)


def _q4_0_to_q8_0(raw: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Writes q4_0 rows ``[rows, row_bytes]`` as q8_0 with the same scales: no value changes."""
    blocks = raw.reshape(len(raw), -1, Q4_0.block_bytes)
    scales, nibbles = blocks[..., :2], blocks[..., 2:]
    result = np.empty((*blocks.shape[:2], Q8_0.block_bytes), np.uint8)
    result[..., :2] = scales
    # Unsigned bytes wrap around to the two's complement of q - 8.
    result[..., 2:18] = (nibbles & 0x0F) - np.uint8(8)
    result[..., 18:] = (nibbles >> 4) - np.uint8(8)
    return result.reshape(len(raw), -1)
