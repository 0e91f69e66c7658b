"""Memory by the page: what is no longer needed goes back to the system at once."""

from __future__ import annotations

import math
import mmap
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray


def allocate(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """An array of zeros whose pages are its own.

    The system has them back as soon as the array is gone. Of what malloc hands out, blocks of
    megabytes included, it would keep much for later.
    """
    nbytes = math.prod(shape) * np.dtype(dtype).itemsize
    memory = mmap.mmap(-1, max(nbytes, 1), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):  # Linux only
        memory.madvise(mmap.MADV_HUGEPAGE)
    array = np.frombuffer(memory, dtype, math.prod(shape))
    # A row is what its views refer to: who holds one of them holds it.
    return array if len(shape) == 1 else array.reshape(shape)


def release(file: mmap.mmap, start: int, nbytes: int) -> None:
    """Lets go of a part of a mapped file, which stops counting as this process's memory.

    It stays mapped: whoever reads it again gets the same bytes, from the file.
    """
    first = start - start % mmap.PAGESIZE
    file.madvise(mmap.MADV_DONTNEED, first, start + nbytes - first)
