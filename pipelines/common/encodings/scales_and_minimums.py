"""What q4_k and q5_k have of each of eight parts of 32 elements: a scale and a minimum of six bits.

The first four of twelve bytes have the scales of the parts 0-3, the next four their minimums, each
below two bits more. The last four have the lower four bits of the scales of parts 4-7 in their low
nibbles, and of their minimums in the high ones; the upper two bits of both are those above.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipelines.common.encodings.encoding import Blocks, Floats, OfBlocks


def scales(blocks: Blocks, out: Floats) -> None:
    """Writes ``d`` times each part's scale, ``[n, 8]``."""
    _products(blocks, "d", 0, out)


def offsets(middle: int) -> OfBlocks:
    """What writes the value of each part's code in the middle, ``[n, 8]``.

    Codes are counted from there, so that they and what is added to their products are small beside
    the products: what is lost where activations are rounded is in proportion to both.
    """

    def write(blocks: Blocks, out: Floats) -> None:
        import numpy as np

        minimums = np.empty_like(out)
        _products(blocks, "dmin", 1, minimums)
        scales(blocks, out)
        out *= middle
        out -= minimums

    return write


def _products(blocks: Blocks, factor: str, of: int, out: Floats) -> None:
    import numpy as np

    words = np.ascontiguousarray(blocks["six_bits"]).view("<u4").reshape(-1, 3)
    first, last = words[:, of], words[:, 2] >> (4 * of)
    parts = np.empty((len(blocks), 2), "<u4")
    parts[:, 0] = first & 0x3F3F3F3F
    parts[:, 1] = (last & 0x0F0F0F0F) | (first >> 2 & 0x30303030)
    factors = blocks[factor].astype(np.float32)
    np.multiply(parts.view(np.uint8), factors[:, None], out=out)
