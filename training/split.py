"""Which facts belong to training and which are held out: decided by the fact, not by a seed."""

from __future__ import annotations

import enum
import zlib


class Split(enum.Enum):
    """One side of the division; no key belongs to both."""

    TRAIN = "train"
    HELDOUT = "heldout"

    def owns(self, *key: object) -> bool:
        """Says whether `key` is on this side; about one key in ten is held out."""
        heldout = zlib.crc32(repr(key).encode()) % 10 == 0
        return heldout == (self is Split.HELDOUT)
