"""q5_0, 32 elements in 2 + 4 + 16 bytes: ``d * (q - 16)``; nibbles as in q4_0, then the fifth bits.

Bit i of the four bytes, read as one little-endian number, is the fifth bit of element i.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.common.encodings.encoding import (
    Coded,
    Encoding,
    codes_are_five_bits,
    decode_by_gguf,
    encode_by_gguf,
    scales_are_d,
    spread_five_bits,
)

if TYPE_CHECKING:
    from pipelines.common.encodings.encoding import Blocks, Bytes


def _signed(blocks: Blocks, out: Bytes) -> None:
    spread_five_bits(blocks, out)
    # Unsigned bytes wrap around to the two's complement of q - 16.
    out -= 16


Q5_0 = Encoding(
    "q5_0",
    6,
    32,
    22,
    decode_by_gguf,
    encode_by_gguf,
    coded=Coded(
        fields=(("d", "<f2"), ("high", "V4"), ("codes", "V16")),
        bits=8,
        group=32,
        codes=codes_are_five_bits,
        scales=scales_are_d,
        signed=_signed,
    ),
)
