"""Decoding rows exactly, and encoding them bit for bit as ggml's reference does."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipelines.common.encodings import F32, Q8_0, Encoding
from pipelines.common.parallel import for_row_chunks


def dequantize(encoding: Encoding, raw: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Decodes rows of blocks exactly, in parallel.

    Args:
        encoding: A supported encoding.
        raw: Bytes, shape ``[rows, row_bytes]``, contiguous.

    Returns:
        The values, shape ``[rows, K]``: a view of `raw` if that is float32 already.
    """
    if encoding == F32:
        return raw.view(np.float32)
    rows, row_bytes = raw.shape
    k = encoding.row_length(row_bytes)
    values = np.empty((rows, k), np.float32)
    for_row_chunks(rows, k, lambda chunk: dequantize_into(encoding, raw[chunk], values[chunk]))
    return values


def dequantize_into(
    encoding: Encoding, raw: NDArray[np.uint8], values: NDArray[np.float32]
) -> None:
    """Decodes the rows `raw` ``[rows, row_bytes]`` into `values` ``[rows, K]``, on this thread."""
    assert encoding.decode is not None, f"{encoding} is not supported"
    encoding.decode(encoding, raw, values)


def quantize(encoding: Encoding, values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Encodes rows in parallel.

    Args:
        encoding: One that the reference can write (`Encoding.encode`).
        values: Shape ``[rows, K]``, K a multiple of the encoding's block size.

    Returns:
        Bytes, shape ``[rows, row_bytes]``.

    Raises:
        ValueError: K is not a multiple of the block size.
    """
    rows, k = values.shape
    raw = np.empty((rows, encoding.row_bytes(k)), np.uint8)

    def work(chunk: slice) -> None:
        raw[chunk] = _quantize_rows(encoding, values[chunk])

    for_row_chunks(rows, k, work)
    return raw


def _quantize_rows(encoding: Encoding, values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Encodes `values` ``[rows, K]`` as ``[rows, row_bytes]``, on this thread."""
    assert encoding.encode is not None, f"nothing writes {encoding}"
    return encoding.encode(encoding, values)


def encoded(values: NDArray[np.float32], encoding: Encoding) -> NDArray[np.uint8]:
    """Rows in any encoding; where nothing writes it, other values of about the same size.

    Args:
        values: Shape ``[..., K]``, K a multiple of the encoding's block size.
        encoding: A supported encoding.

    Returns:
        Bytes, shape ``[..., row_bytes]``, which depend on the values and nothing else.
    """
    if encoding.encode is not None:
        raw = quantize(encoding, values.reshape(-1, values.shape[-1]))
        return raw.reshape(*values.shape[:-1], -1)
    assert encoding.coded is not None
    rows, columns = values.size // values.shape[-1], values.shape[-1]
    generator = np.random.default_rng(values.size)
    raw = generator.integers(0, 256, (rows, encoding.row_bytes(columns)), np.uint8)
    blocks = raw.reshape(-1).view(encoding.coded.dtype)
    parts = {field[0] for field in encoding.coded.fields}
    factors = [name for name in ("d", "dmin") if name in parts]
    means = []
    for factor in factors:  # what is subtracted is as large as what it is subtracted from
        for name in factors:
            blocks[name] = name == factor
        means.append(abs(dequantize(encoding, raw).mean()))
    for factor, mean in zip(factors, reversed(means), strict=True):
        blocks[factor] = mean if len(factors) > 1 else 1
    # Of either sign, so that the mean is about zero where a format's values are lopsided.
    signs = generator.choice([-1.0, 1.0], len(blocks))
    scale = values.std() / dequantize(encoding, raw).std()
    for factor in factors:
        blocks[factor] = blocks[factor] * scale * signs
    return raw.reshape(*values.shape[:-1], -1)


def convert_rows(stored: Encoding, wanted: Encoding, raw: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Encodes rows ``[rows, row_bytes]`` anew, on this thread; without loss where that can be."""
    if wanted == Q8_0 and stored.exact_in_q8_0:
        return _to_q8_0(stored, raw)
    rows, row_bytes = raw.shape
    values = np.empty((rows, stored.row_length(row_bytes)), np.float32)
    dequantize_into(stored, raw, values)
    return _quantize_rows(wanted, values)


def _to_q8_0(stored: Encoding, raw: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Writes rows ``[rows, row_bytes]`` as q8_0 with the same scales: no value changes."""
    assert stored.coded is not None
    assert stored.coded.signed is not None
    assert Q8_0.coded is not None
    blocks = raw.reshape(-1).view(stored.coded.dtype)
    codes = np.empty((len(blocks), Q8_0.block_size), np.uint8)
    stored.coded.signed(blocks, codes)
    result = np.empty(len(blocks), Q8_0.coded.dtype)
    result["d"] = blocks["d"]
    result["codes"] = codes.view("V32")[:, 0]
    return result.view(np.uint8).reshape(len(raw), -1)
