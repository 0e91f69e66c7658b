"""How tensors are encoded: a row of numbers becomes a row of equally sized blocks of bytes.

The layouts are those of ggml (``ggml-common.h``), which GGUF files store:

==========  ========  ===========  =====================================================
encoding    elements  bytes        value of element *i* of a block
==========  ========  ===========  =====================================================
f32         1         4            IEEE 754 binary32
f16         1         2            IEEE 754 binary16
bf16        1         2            upper half of a binary32
q8_0        32        2 + 32       ``d * q``, ``q`` a signed byte
q4_0        32        2 + 16       ``d * (q - 8)``; low nibbles are elements 0-15
q4_1        32        2 + 2 + 16   ``d * q + m``; nibbles as in q4_0
q6_k        256       128+64+16+2  ``d * s * (q - 32)``, ``s`` a signed byte per 16 elements
==========  ========  ===========  =====================================================

``d`` and ``m`` are binary16.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipelines.common.parallel import for_row_chunks

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Encoding:
    """A block format.

    Attributes:
        name: ggml's name in lower case, as ``q4_0``.
        ggml_type: ggml's number for it, as stored in GGUF files.
        block_size: Elements in a block.
        block_bytes: Bytes of a block.
        successor: What is used in its place, where ggml has given it up; else empty.
    """

    name: str
    ggml_type: int
    block_size: int
    block_bytes: int
    successor: str = ""

    @property
    def supported(self) -> bool:
        """Whether tensors in this encoding can be run, not only listed."""
        return self.name in ENCODINGS

    @property
    def advice(self) -> str:
        """Why tensors in it cannot be run, and what to do, for one that is not `supported`."""
        reason = "cannot be run"
        if self.successor:
            reason = f"was removed from ggml, {self.successor} took its place"
        runs = [self.successor] if self.successor in ENCODINGS else ENCODINGS
        return f"{self} {reason}; use a file of the model in {' or '.join(map(str.upper, runs))}"

    def row_bytes(self, k: int) -> int:
        """Bytes of a row of `k` elements.

        Raises:
            ValueError: `k` is not a multiple of the block size.
        """
        blocks, rest = divmod(k, self.block_size)
        if rest:
            raise ValueError(f"a row of {k} is not a multiple of {self.name}'s {self.block_size}")
        return blocks * self.block_bytes

    def row_length(self, row_bytes: int) -> int:
        """Elements of a row of `row_bytes` bytes.

        Raises:
            ValueError: `row_bytes` is not a multiple of the bytes of a block.
        """
        blocks, rest = divmod(row_bytes, self.block_bytes)
        if rest:
            raise ValueError(f"{row_bytes} bytes are not whole {self.name} blocks")
        return blocks * self.block_size

    def __str__(self) -> str:
        return self.name


F32 = Encoding("f32", 0, 1, 4)
F16 = Encoding("f16", 1, 1, 2)
BF16 = Encoding("bf16", 30, 1, 2)
Q8_0 = Encoding("q8_0", 8, 32, 34)
Q4_0 = Encoding("q4_0", 2, 32, 18)
Q4_1 = Encoding("q4_1", 3, 32, 20)
Q6_K = Encoding("q6_k", 14, 256, 210)

ENCODINGS: Mapping[str, Encoding] = {
    encoding.name: encoding for encoding in (F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q6_K)
}
"""The encodings that can be run, by name."""

GGML_TYPES: Mapping[int, Encoding] = {
    encoding.ggml_type: encoding
    for encoding in (
        *ENCODINGS.values(),
        # Known by size only, so that files holding them can be checked and listed.
        Encoding("q5_0", 6, 32, 22),
        Encoding("q5_1", 7, 32, 24),
        Encoding("q8_1", 9, 32, 36),
        Encoding("q2_k", 10, 256, 84),
        Encoding("q3_k", 11, 256, 110),
        Encoding("q4_k", 12, 256, 144),
        Encoding("q5_k", 13, 256, 176),
        Encoding("q8_k", 15, 256, 292),
        Encoding("iq2_xxs", 16, 256, 66),
        Encoding("iq2_xs", 17, 256, 74),
        Encoding("iq3_xxs", 18, 256, 98),
        Encoding("iq1_s", 19, 256, 50),
        Encoding("iq4_nl", 20, 32, 18),
        Encoding("iq3_s", 21, 256, 110),
        Encoding("iq2_s", 22, 256, 82),
        Encoding("iq4_xs", 23, 256, 136),
        Encoding("i8", 24, 1, 1),
        Encoding("i16", 25, 1, 2),
        Encoding("i32", 26, 1, 4),
        Encoding("i64", 27, 1, 8),
        Encoding("f64", 28, 1, 8),
        Encoding("iq1_m", 29, 256, 56),
        Encoding("tq1_0", 34, 256, 54),
        Encoding("tq2_0", 35, 256, 66),
        Encoding("mxfp4", 39, 32, 17),
        Encoding("nvfp4", 40, 64, 36),
        Encoding("q1_0", 41, 128, 18),
        Encoding("q2_0", 42, 64, 18),
        # ggml has these numbers no longer. The last six were rows of blocks, interleaved.
        Encoding("q4_2", 4, 16, 10, successor="q4_0"),
        Encoding("q4_3", 5, 16, 12, successor="q4_1"),
        Encoding("q4_0_4_4", 31, 32, 18, successor="q4_0"),
        Encoding("q4_0_4_8", 32, 32, 18, successor="q4_0"),
        Encoding("q4_0_8_8", 33, 32, 18, successor="q4_0"),
        Encoding("iq4_nl_4_4", 36, 32, 18, successor="iq4_nl"),
        Encoding("iq4_nl_4_8", 37, 32, 18, successor="iq4_nl"),
        Encoding("iq4_nl_8_8", 38, 32, 18, successor="iq4_nl"),
    )
}
"""Every encoding a GGUF file may name, by ggml's number."""


def dequantize(encoding: Encoding, raw: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Decodes rows of blocks exactly, in parallel.

    Args:
        encoding: A supported encoding.
        raw: Bytes, shape ``[rows, row_bytes]``, contiguous.

    Returns:
        The values, shape ``[rows, K]``: a view of `raw` if that is float32 already.
    """
    import numpy as np

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
    import numpy as np

    if encoding == F32:
        values[...] = raw.view(np.float32)
    elif encoding == F16:
        values[...] = raw.view(np.float16)
    elif encoding == BF16:
        bits = values.view(np.uint32)
        bits[...] = raw.view(np.uint16)
        bits <<= 16
    else:
        from gguf.constants import GGMLQuantizationType
        from gguf.quants import dequantize as gguf_dequantize

        # Scales that are not finite are the file's own; they decode to what they say.
        with np.errstate(over="ignore", invalid="ignore"):
            values[...] = gguf_dequantize(raw, GGMLQuantizationType(encoding.ggml_type))
