"""q4_0, 32 elements in 2 + 16 bytes: ``d * (q - 8)``; low nibbles are elements 0-15."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.common.encodings.encoding import (
    Coded,
    Encoding,
    decode_by_gguf,
    encode_by_gguf,
    scales_are_d,
)

if TYPE_CHECKING:
    from pipelines.common.encodings.encoding import Blocks, Bytes


def _codes(blocks: Blocks, out: Bytes) -> None:
    from pipelines.common.encodings.nibbles import regroup

    regroup(blocks["codes"], out)


def _signed(blocks: Blocks, out: Bytes) -> None:
    out.view("V16")[:, 0] = blocks["codes"]
    out[:, 16:] = out[:, :16] >> 4
    out[:, :16] &= 0x0F
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
        codes=_codes,
        scales=scales_are_d,
        signed=_signed,
    ),
)
