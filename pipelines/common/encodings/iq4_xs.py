"""iq4_xs, 256 elements in 2 + 2 + 4 + 128 bytes: ``d * (scale - 32) * v``, v as in iq4_nl.

A scale is for 32 elements, whose 16 bytes of nibbles are as in q4_0. Nibble p of four bytes has the
lower bits of scale p, and two bits of the number before them, from bit 2 p on, are the upper ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.common.encodings.encoding import Coded, Encoding, decode_by_gguf, look_up
from pipelines.common.encodings.iq4_nl import VALUES

if TYPE_CHECKING:
    from pipelines.common.encodings.encoding import Blocks, Bytes, Floats


def _codes(blocks: Blocks, out: Bytes) -> None:
    import numpy as np

    runs = np.ascontiguousarray(blocks["codes"]).view("V16").reshape(-1)
    look_up(VALUES, runs, out.reshape(-1, 32))
    out ^= 0x80


def _scales(blocks: Blocks, out: Floats) -> None:
    import numpy as np

    parts = np.arange(8, dtype=np.uint32)
    low = blocks["low"][:, None] >> 4 * parts & 15
    high = blocks["high"][:, None] >> 2 * parts & 3
    factors = blocks["d"].astype(np.float32)
    np.multiply((low | high << 4).astype(np.float32) - 32, factors[:, None], out=out)


IQ4_XS = Encoding(
    "iq4_xs",
    23,
    256,
    136,
    decode_by_gguf,
    # The gguf package reads it only.
    encode=None,
    coded=Coded(
        fields=(("d", "<f2"), ("high", "<u2"), ("low", "<u4"), ("codes", "V128")),
        bits=8,
        group=32,
        codes=_codes,
        scales=_scales,
    ),
)
