"""q4_0, 32 elements in 2 + 16 bytes: ``d * (q - 8)``; low nibbles are elements 0-15."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.common.encodings.encoding import (
    Coded,
    Encoding,
    codes_are_nibbles,
    decode_by_gguf,
    encode_by_gguf,
    scales_are_d,
    spread_nibbles,
)

if TYPE_CHECKING:
    from pipelines.common.encodings.encoding import Blocks, Bytes


def _signed(blocks: Blocks, out: Bytes) -> None:
    spread_nibbles(blocks, out)
    # Unsigned bytes wrap around to the two's complement of q - 8.
    out -= 8


Q4_0 = Encoding(
    "q4_0",
    2,
    32,
    18,
    decode_by_gguf,
    encode_by_gguf,
    coded=Coded(
        fields=(("d", "<f2"), ("codes", "V16")),
        bits=4,
        group=32,
        codes=codes_are_nibbles,
        scales=scales_are_d,
        signed=_signed,
    ),
)
