"""q4_k, 256 elements in 2 + 2 + 12 + 128 bytes: ``d * scale * q - dmin * minimum``.

A scale and a minimum are for 32 elements. Of 32 bytes of codes the low nibbles are 32 elements, the
high ones the next.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.common.encodings import scales_and_minimums
from pipelines.common.encodings.encoding import Coded, Encoding, decode_by_gguf

if TYPE_CHECKING:
    from pipelines.common.encodings.encoding import Blocks, Bytes


def _codes(blocks: Blocks, out: Bytes) -> None:
    import numpy as np

    from pipelines.common.encodings.nibbles import regroup

    runs = np.ascontiguousarray(blocks["codes"]).view("V16").reshape(-1)
    halves = np.empty((len(runs), 16), np.uint8)
    regroup(runs, halves)
    # Of two runs, the low nibbles come before the high ones of either.
    out.view("V8").reshape(-1, 2, 2)[...] = halves.view("V8").reshape(-1, 2, 2).swapaxes(1, 2)


Q4_K = Encoding(
    "q4_k",
    12,
    256,
    144,
    decode_by_gguf,
    # The gguf package reads it only.
    encode=None,
    coded=Coded(
        fields=(("d", "<f2"), ("dmin", "<f2"), ("six_bits", "V12"), ("codes", "V128")),
        bits=4,
        group=32,
        codes=_codes,
        scales=scales_and_minimums.scales,
        offsets=scales_and_minimums.offsets(8),
    ),
)
