"""q5_k, 256 elements in 2 + 2 + 12 + 32 + 128 bytes: ``d * scale * q - dmin * minimum``.

As q4_k, with a fifth bit: bit p of byte i of those is that of element i of the 32 that part p has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.common.encodings import scales_and_minimums
from pipelines.common.encodings.encoding import Coded, Encoding, decode_by_gguf

if TYPE_CHECKING:
    from pipelines.common.encodings.encoding import Blocks, Bytes


def _codes(blocks: Blocks, out: Bytes) -> None:
    """Widens codes to eight bits, of which 128 stands for 16."""
    import numpy as np

    each_byte = np.uint64(0x0101010101010101)
    low = np.ascontiguousarray(blocks["codes"]).view(np.uint64).reshape(-1, 4, 4)
    fifths = np.ascontiguousarray(blocks["fifths"]).view(np.uint64).reshape(-1, 4)
    parts = out.view(np.uint64).reshape(-1, 8, 4)
    for part in range(8):
        values = low[:, part // 2] >> (4 * (part % 2))
        values &= each_byte * 0x0F
        fifth = fifths >> part
        fifth &= each_byte
        fifth <<= 4
        values |= fifth
        values += each_byte * (0x80 - 16)
        parts[:, part] = values


Q5_K = Encoding(
    "q5_k",
    13,
    256,
    176,
    decode_by_gguf,
    # The gguf package reads it only.
    encode=None,
    coded=Coded(
        fields=(
            ("d", "<f2"),
            ("dmin", "<f2"),
            ("six_bits", "V12"),
            ("fifths", "V32"),
            ("codes", "V128"),
        ),
        bits=8,
        group=32,
        codes=_codes,
        scales=scales_and_minimums.scales,
        offsets=scales_and_minimums.offsets(16),
    ),
)
