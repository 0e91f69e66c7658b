"""Codes of four bits, of which a byte of a block has the elements i and i + 16."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pipelines.common.encodings.encoding import Blocks, Bytes


def regroup(nibbles_of_blocks: Blocks, out: Bytes) -> None:
    """Regroups nibbles from elements (i, i + 16) of a byte to elements (2i, 2i + 1).

    Two neighbouring bytes are read as one 16-bit word, whose low nibbles make one byte of the first
    half of the result and whose high nibbles one of the second.

    Args:
        nibbles_of_blocks: Runs of 16 bytes, ``[n]``.
        out: Where the result goes, ``[n, 16]``.
    """
    words, nibbles, shifted = _scratch.words(len(out))
    pairs = shifted.view(np.uint8).reshape(-1, 8)[: len(out)]
    words.view("V16")[:, 0] = nibbles_of_blocks
    halves = out.view("V8")
    for half in range(2):
        np.bitwise_and(words, 0x0F0F, out=nibbles)
        np.right_shift(nibbles, 4, out=shifted)
        np.bitwise_or(nibbles, shifted, out=nibbles)
        np.copyto(pairs, nibbles, casting="unsafe")
        halves[:, half] = pairs.view("V8")[:, 0]
        np.right_shift(words, 4, out=words)


def from_neighbours(codes: Bytes) -> Bytes:
    """Regroups nibbles from elements (2i, 2i + 1) of a byte to elements (i, i + 16).

    Two neighbouring bytes of the result are one 16-bit word, whose low nibbles come of one byte of
    the first half and whose high nibbles of one of the second.

    Args:
        codes: Runs of 16 bytes, ``[n, 16]``.

    Returns:
        The same codes, ``[n, 16]``.
    """
    words = codes.reshape(-1, 2, 8).astype("<u2")
    words |= words << 4
    words &= 0x0F0F
    words[:, 1] <<= 4
    words[:, 0] |= words[:, 1]
    return np.ascontiguousarray(words[:, 0]).view(np.uint8)


class _Scratch(threading.local):
    """Memory that a thread uses again for each chunk: new memory costs more than the arithmetic.

    The system hands out pages of zeros for every array of this size, which takes several times as
    long as what is then computed in it.
    """

    def __init__(self) -> None:
        self._words = np.empty((3, 0, 8), "<u2")

    def words(self, blocks: int) -> NDArray[np.uint16]:
        """Three arrays of eight 16-bit words a block."""
        if self._words.shape[1] < blocks:
            self._words = np.empty((3, blocks, 8), "<u2")
        return self._words[:, :blocks]


_scratch = _Scratch()
