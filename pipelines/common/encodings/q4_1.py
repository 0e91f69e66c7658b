"""q4_1, 32 elements in 2 + 2 + 16 bytes: ``d * q + m``, d and m binary16; nibbles as in q4_0."""

from __future__ import annotations

from pipelines.common.encodings.encoding import (
    Coded,
    Encoding,
    codes_are_nibbles,
    decode_by_gguf,
    encode_by_gguf,
    offsets_from,
    scales_are_d,
)

Q4_1 = Encoding(
    "q4_1",
    3,
    32,
    20,
    decode_by_gguf,
    encode_by_gguf,
    coded=Coded(
        fields=(("d", "<f2"), ("m", "<f2"), ("codes", "V16")),
        bits=4,
        group=32,
        codes=codes_are_nibbles,
        scales=scales_are_d,
        offsets=offsets_from(8),
    ),
)
