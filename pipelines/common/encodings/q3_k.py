"""q3_k, 256 elements in 32 + 64 + 12 + 2 bytes: ``d * (scale - 32) * (q - 4)``.

Two bits of a code are as in q2_k; bit p of byte i of the first 32 bytes is the third of element i
of the 32 that part p has. A scale of six bits is for 16 elements.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.common.encodings.encoding import Coded, Encoding, decode_by_gguf
from pipelines.common.encodings.two_bits import join_pairs, two_bits

if TYPE_CHECKING:
    from pipelines.common.encodings.encoding import Blocks, Bytes, Floats


def _codes(blocks: Blocks, out: Bytes) -> None:
    """Widens codes to four bits, which moves their middle from 4 to 8."""
    import numpy as np

    codes = two_bits(blocks)
    thirds = np.ascontiguousarray(blocks["thirds"]).view(np.uint8).reshape(-1, 1, 32)
    third = thirds >> np.arange(8, dtype=np.uint8)[:, None]
    third &= 1
    third <<= 2
    codes |= third.reshape(codes.shape)
    codes += 8 - 4
    join_pairs(codes, out)


def _scales(blocks: Blocks, out: Floats) -> None:
    """Puts scales together.

    Of the first eight bytes low nibbles are those of the scales 0-7, high ones those of the others.
    Bits ``2 j`` and above of byte ``8 + i`` are the upper two of scale ``4 j + i``.
    """
    import numpy as np

    low, high = blocks["scales"][:, None, :8], blocks["scales"][:, None, 8:]
    scales = (low >> np.array([0, 4], np.uint8)[:, None] & 15).reshape(-1, 16)
    upper = high >> np.array([0, 2, 4, 6], np.uint8)[:, None] & 3
    scales |= upper.reshape(-1, 16) << 4
    factors = blocks["d"].astype(np.float32)
    np.multiply(scales.view(np.int8) - 32, factors[:, None], out=out)


Q3_K = Encoding(
    "q3_k",
    11,
    256,
    110,
    decode_by_gguf,
    # The gguf package reads it only.
    encode=None,
    coded=Coded(
        fields=(("thirds", "V32"), ("codes", "V64"), ("scales", "u1", 12), ("d", "<f2")),
        bits=4,
        group=16,
        codes=_codes,
        scales=_scales,
    ),
)
