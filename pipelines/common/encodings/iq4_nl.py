"""iq4_nl, 32 elements in 2 + 16 bytes: ``d * v``, v a value of a table; nibbles as in q4_0."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.common.encodings.encoding import (
    Coded,
    Encoding,
    decode_by_gguf,
    look_up,
    scales_are_d,
)

if TYPE_CHECKING:
    from pipelines.common.encodings.encoding import Blocks, Bytes

VALUES = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)
"""What codes stand for, in iq4_xs too."""


def _codes(blocks: Blocks, out: Bytes) -> None:
    _signed(blocks, out)
    out ^= 0x80


def _signed(blocks: Blocks, out: Bytes) -> None:
    look_up(VALUES, blocks["codes"], out)


IQ4_NL = Encoding(
    "iq4_nl",
    20,
    32,
    18,
    decode_by_gguf,
    # The gguf package reads it only.
    encode=None,
    coded=Coded(
        fields=(("d", "<f2"), ("codes", "V16")),
        bits=8,
        group=32,
        codes=_codes,
        scales=scales_are_d,
        signed=_signed,
    ),
)
