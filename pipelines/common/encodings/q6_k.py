"""q6_k, 256 elements in 128 + 64 + 16 + 2 bytes: ``d * s * (q - 32)``, s a signed byte for 16."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.common.encodings.encoding import Coded, Encoding, decode_by_gguf

if TYPE_CHECKING:
    from pipelines.common.encodings.encoding import Blocks, Bytes, Floats


def _codes(blocks: Blocks, out: Bytes) -> None:
    """Puts codes together from four bits and two, and moves their middle from 32 to 128.

    A block has two halves of four quarters. Quarters 0 and 1 are the low nibbles of 32 bytes each,
    2 and 3 the high ones; a byte has the upper bits of one element of each quarter.
    """
    import numpy as np

    each_byte = np.uint64(0x0101010101010101)
    low = np.ascontiguousarray(blocks["low"]).view("V32").reshape(-1, 2)
    low_bits = [np.ascontiguousarray(low[:, i]).view(np.uint64) for i in range(2)]
    high_bits = np.ascontiguousarray(blocks["high"]).view(np.uint64)
    quarters = out.view("V32").reshape(-1, 4)
    for quarter in range(4):
        values = low_bits[quarter % 2] >> (4 * (quarter // 2))
        values &= each_byte * 0x0F
        upper = high_bits >> (2 * quarter)
        upper &= each_byte * 0x03
        upper <<= 4
        values |= upper
        values += each_byte * (128 - 32)
        quarters[:, quarter] = values.view("V32")


def _scales(blocks: Blocks, out: Floats) -> None:
    import numpy as np

    factors = blocks["d"].astype(np.float32)
    np.multiply(blocks["scales"], factors[:, None], out=out)


Q6_K = Encoding(
    "q6_k",
    14,
    256,
    210,
    decode_by_gguf,
    # The gguf package reads it only.
    encode=None,
    coded=Coded(
        fields=(("low", "V128"), ("high", "V64"), ("scales", "i1", 16), ("d", "<f2")),
        bits=8,
        group=16,
        codes=_codes,
        scales=_scales,
    ),
)
