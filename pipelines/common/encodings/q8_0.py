"""q8_0, 32 elements in 2 + 32 bytes: ``d * q``, d binary16 and q a signed byte."""

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


def _signed(blocks: Blocks, out: Bytes) -> None:
    out.view("V32")[:, 0] = blocks["codes"]


def _codes(blocks: Blocks, out: Bytes) -> None:
    _signed(blocks, out)
    out ^= 0x80


Q8_0 = Encoding(
    "q8_0",
    8,
    32,
    34,
    decode_by_gguf,
    encode_by_gguf,
    coded=Coded(
        fields=(("d", "<f2"), ("codes", "V32")),
        bits=8,
        group=32,
        codes=_codes,
        scales=scales_are_d,
        signed=_signed,
    ),
)
