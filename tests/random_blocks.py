"""Blocks of any bytes, but for their scales."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipelines.common.encodings import Encoding


def random_blocks(
    encoding: Encoding, count: int, generator: np.random.Generator, scale: float = 0.01
) -> NDArray[np.uint8]:
    """Blocks of a format, ``[count, block_bytes]``, whose scales are about `scale`."""
    assert encoding.coded is not None
    raw = generator.integers(0, 256, (count, encoding.block_bytes), np.uint8)
    blocks = raw.reshape(-1).view(encoding.coded.dtype)
    for name, kind, *_ in encoding.coded.fields:
        if kind == "<f2":
            blocks[name] = generator.normal(0, scale, count)
        elif name == "exponent":
            blocks[name] = 128 + round(np.log2(scale)) + generator.integers(-2, 2, count)
    return raw
