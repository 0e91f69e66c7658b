"""mxfp4, 32 elements in 1 + 16 bytes: ``2**(e - 128) * v``, v twice an E2M1 float.

Nibbles are as in q4_0. Source: OCP Microscaling Formats (MX) Specification 1.0, of which ggml takes
an exponent of 255 for a number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.common.encodings.encoding import (
    Coded,
    Encoding,
    decode_by_gguf,
    encode_by_gguf,
    look_up,
)

if TYPE_CHECKING:
    from pipelines.common.encodings.encoding import Blocks, Bytes, Floats

_VALUES = (0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12)


def _codes(blocks: Blocks, out: Bytes) -> None:
    look_up(_VALUES, blocks["codes"], out)
    out ^= 0x80


def _scales(blocks: Blocks, out: Floats) -> None:
    import numpy as np

    out[:, 0] = np.ldexp(np.float32(1), blocks["exponent"].astype(np.int32) - 128)


MXFP4 = Encoding(
    "mxfp4",
    39,
    32,
    17,
    decode_by_gguf,
    encode_by_gguf,
    coded=Coded(
        fields=(("exponent", "u1"), ("codes", "V16")),
        bits=8,
        group=32,
        codes=_codes,
        scales=_scales,
    ),
)
