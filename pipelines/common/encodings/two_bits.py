"""Codes of two bits, as blocks of 256 have them.

A block has two halves of four parts of 32 elements: a byte has the bits of one element of each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipelines.common.encodings.encoding import Blocks, Bytes


def two_bits(blocks: Blocks) -> Bytes:
    """The codes of blocks, a byte each: ``[n, 256]``."""
    import numpy as np

    packed = np.ascontiguousarray(blocks["codes"]).view(np.uint8).reshape(-1, 2, 1, 32)
    codes = packed >> np.array([0, 2, 4, 6], np.uint8)[:, None]
    codes &= 3
    return codes.reshape(len(blocks), 256)


def join_pairs(codes: Bytes, out: Bytes) -> None:
    """Writes codes of four bits, ``[n, k]``, two to a byte, the first of them in its low nibble."""
    import numpy as np

    np.left_shift(codes[:, 1::2], 4, out=out)
    out |= codes[:, ::2]
