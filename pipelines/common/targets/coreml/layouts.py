"""How weight matrices are laid out for Core ML: transposed, in float16, and not too wide."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from pipelines.common.encodings import Encoding
from pipelines.common.encodings.convert import dequantize_into
from pipelines.common.parallel import for_row_chunks
from pipelines.common.program.package import Layout

LARGEST = 16384
"""No dimension of a tensor may be larger: Core ML's limit for the GPU and the Neural Engine.

Source: https://onnxruntime.ai/docs/execution-providers/CoreML-ExecutionProvider.html
"""

_MULTIPLE = 32
"""Core ML pads rows of results to whole multiples of it."""


def parts(rows: int) -> tuple[int, int]:
    """Into how many parts of how many columns the product with a matrix of `rows` rows falls.

    All parts are equal, so the last one may have more columns than there are rows left.
    """
    if rows <= LARGEST:
        return 1, rows
    count = -(-rows // LARGEST)
    return count, -(-rows // (count * _MULTIPLE)) * _MULTIPLE


def transposed(encoding: Encoding, raw: NDArray[np.uint8]) -> NDArray[np.float16]:
    """The values of rows ``[rows, row_bytes]`` as columns, ``[parts, K, columns]``."""
    rows, length = raw.shape[0], encoding.row_length(raw.shape[1])
    count, columns = parts(rows)
    out = np.zeros((count, length, columns), np.float16)

    def convert(chunk: slice) -> None:
        values = np.empty((chunk.stop - chunk.start, length), np.float32)
        dequantize_into(encoding, raw[chunk], values)
        with np.errstate(over="ignore"):  # what float16 cannot hold is infinite in it
            narrow = values.astype(np.float16).T
        for part in range(chunk.start // columns, (chunk.stop - 1) // columns + 1):
            first, last = max(chunk.start, part * columns), min(chunk.stop, (part + 1) * columns)
            place = slice(first - part * columns, last - part * columns)
            out[part, :, place] = narrow[:, first - chunk.start : last - chunk.start]

    for_row_chunks(rows, length, convert)
    return out


LAYOUTS: Mapping[str, Layout] = {"transposed": transposed}
