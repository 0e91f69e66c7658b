"""q5_1, 32 elements in 2 + 2 + 4 + 16 bytes: ``d * q + m``; codes as in q5_0."""

from __future__ import annotations

from pipelines.common.encodings.encoding import (
    Coded,
    Encoding,
    codes_are_five_bits,
    decode_by_gguf,
    encode_by_gguf,
    offsets_from,
    scales_are_d,
)

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
        codes=codes_are_five_bits,
        scales=scales_are_d,
        offsets=offsets_from(16),
    ),
)
