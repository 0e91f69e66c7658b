"""How weight bytes are laid out for ONNX Runtime's block-quantized operators.

`MatMulNBits` and `GatherBlockQuantized` take unsigned codes and float32 scales, apart from each
other: a value is ``(code - 2**(bits-1)) * scale``. Every block format says how it has this form
(`Coded`), some with an offset added. A layout raises `ValueError` for an encoding that has no such
form.

Source: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.common.checkpoints.pages import allocate
from pipelines.common.encodings import Encoding
from pipelines.common.encodings.encoding import Coded, OfBlocks
from pipelines.common.parallel import for_row_chunks
from pipelines.common.program.package import Layout

Bytes = NDArray[np.uint8]
Array = NDArray[Any]


def codes(encoding: Encoding, raw: Bytes) -> Bytes:
    """The codes of rows ``[rows, row_bytes]``: ``[rows, K / 2]`` at 4 bits, ``[rows, K]`` at 8."""
    coded = _coded(encoding)
    out = allocate((raw.shape[0], encoding.row_length(raw.shape[1]) * coded.bits // 8), np.uint8)
    _by_blocks(coded.codes, encoding, raw, out)
    return out


def scales(encoding: Encoding, raw: Bytes) -> NDArray[np.float32]:
    """The scale of every group: ``[rows, K / group]``."""
    coded = _coded(encoding)
    return _one_a_group(coded.scales, encoding, raw)


def offsets(encoding: Encoding, raw: Bytes) -> NDArray[np.float32]:
    """What some formats add to ``(code - 2**(bits-1)) * scale``: ``[rows, K / group]``."""
    coded = _coded(encoding)
    if coded.offsets is None:
        raise ValueError(f"{encoding} has no offsets")
    return _one_a_group(coded.offsets, encoding, raw)


def _coded(encoding: Encoding) -> Coded:
    if encoding.coded is None:  # a stored graph may say anything
        raise ValueError(f"{encoding} has no codes")
    return encoding.coded


def _one_a_group(work: OfBlocks, encoding: Encoding, raw: Bytes) -> NDArray[np.float32]:
    length = encoding.row_length(raw.shape[1])
    out = allocate((raw.shape[0], length // _coded(encoding).group), np.float32)
    _by_blocks(work, encoding, raw, out)
    return out


def _by_blocks(work: OfBlocks, encoding: Encoding, raw: Bytes, out: Array) -> None:
    """Calls `work` with the blocks of some rows, ``[n]``, and where to put their results."""
    blocks_a_row = raw.shape[1] // encoding.block_bytes
    dtype = _coded(encoding).dtype

    def convert(rows: slice) -> None:
        blocks = raw[rows].reshape(-1).view(dtype)
        # Scales that are not finite are the file's own; they mean what they say.
        with np.errstate(over="ignore", invalid="ignore"):
            work(blocks, out[rows].reshape(len(blocks), out.shape[1] // blocks_a_row))

    for_row_chunks(raw.shape[0], encoding.row_length(raw.shape[1]), convert)


LAYOUTS: Mapping[str, Layout] = {
    "codes": codes,
    "codes_by_row": codes,
    "scales": scales,
    "offsets": offsets,
}
"""The layouts that `pipelines.common.ort.emit` asks for."""
