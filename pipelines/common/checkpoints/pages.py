"""Memory by the page: what is no longer needed goes back to the system at once."""

from __future__ import annotations

import math
import mmap
from typing import Any, Final

import numpy as np
from numpy.typing import DTypeLike, NDArray

_HUGE_PAGE: Final = 2 << 20
"""Bytes of the large pages of x86-64, and of arm64 where pages have 4 KiB."""


def allocate(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """An array of zeros whose pages are its own, huge ones where the system has them.

    The system has them back as soon as the array is gone. Of what malloc hands out, blocks of
    megabytes included, it would keep much for later.
    """
    count, nbytes = math.prod(shape), math.prod(shape) * np.dtype(dtype).itemsize
    # Only whole huge pages: one that is used in part would be resident in full.
    whole = nbytes - nbytes % _HUGE_PAGE if hasattr(mmap, "MADV_HUGEPAGE") else 0  # Linux only
    room = nbytes + _HUGE_PAGE if whole else max(nbytes, 1)
    memory = mmap.mmap(-1, room, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    start = 0
    if whole:
        start = -np.frombuffer(memory, np.uint8).ctypes.data % _HUGE_PAGE
        memory.madvise(mmap.MADV_HUGEPAGE, start, whole)
    array = np.frombuffer(memory, dtype, count, offset=start)
    # A row is what its views refer to: who holds one of them holds it.
    return array if len(shape) == 1 else array.reshape(shape)


def release(file: mmap.mmap, start: int, nbytes: int) -> None:
    """Lets go of a part of a mapped file, which stops counting as this process's memory.

    It stays mapped: whoever reads it again gets the same bytes, from the file.
    """
    first = start - start % mmap.PAGESIZE
    file.madvise(mmap.MADV_DONTNEED, first, start + nbytes - first)
