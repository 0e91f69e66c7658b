"""q2_k, 256 elements in 16 + 64 + 2 + 2 bytes: ``d * scale * q - dmin * minimum``.

For 16 elements a byte has the scale in its low nibble and the minimum in its high one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.common.encodings.encoding import Coded, Encoding, decode_by_gguf
from pipelines.common.encodings.two_bits import join_pairs, two_bits

if TYPE_CHECKING:
    from pipelines.common.encodings.encoding import Blocks, Bytes, Floats


def _codes(blocks: Blocks, out: Bytes) -> None:
    """Widens codes to four bits, of which 8 stands for 0."""
    codes = two_bits(blocks)
    codes |= 8
    join_pairs(codes, out)


def _scales(blocks: Blocks, out: Floats) -> None:
    import numpy as np

    np.multiply(blocks["factors"] & 15, blocks["d"].astype(np.float32)[:, None], out=out)


def _offsets(blocks: Blocks, out: Floats) -> None:
    import numpy as np

    np.multiply(blocks["factors"] >> 4, blocks["dmin"].astype(np.float32)[:, None], out=out)
    out *= -1


Q2_K = Encoding(
    "q2_k",
    10,
    256,
    84,
    decode_by_gguf,
    # The gguf package reads it only.
    encode=None,
    coded=Coded(
        fields=(("factors", "u1", 16), ("codes", "V64"), ("d", "<f2"), ("dmin", "<f2")),
        bits=4,
        group=16,
        codes=_codes,
        scales=_scales,
        offsets=_offsets,
    ),
)
