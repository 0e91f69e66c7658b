"""q5_1, 32 elements in 2 + 2 + 4 + 16 bytes: ``d * q + m``; codes as in q5_0."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.common.encodings.encoding import (
    Coded,
    Encoding,
    decode_by_gguf,
    encode_by_gguf,
    scales_are_d,
    spread_five_bits,
)

if TYPE_CHECKING:
    from pipelines.common.encodings.encoding import Blocks, Bytes, Floats


def _codes(blocks: Blocks, out: Bytes) -> None:
    """Widens codes to eight bits, of which 128 stands for 16."""
    spread_five_bits(blocks, out)
    out += 128 - 16


def _offsets(blocks: Blocks, out: Floats) -> None:
    """What is missing in ``(q - 16) * d``: ``m + 16 d``."""
    out[:, 0] = blocks["d"]
    out *= 16
    out[:, 0] += blocks["m"]


Q5_1 = Encoding(
    "q5_1",
    7,
    32,
    24,
    decode_by_gguf,
    encode_by_gguf,
    coded=Coded(
        fields=(("d", "<f2"), ("m", "<f2"), ("high", "V4"), ("codes", "V16")),
        bits=8,
        group=32,
        codes=_codes,
        scales=scales_are_d,
        offsets=_offsets,
    ),
)
