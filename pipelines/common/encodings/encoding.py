"""What a block format is: a row of numbers becomes a row of equally sized blocks of bytes.

Light: formats are listed by ``--help``. What computes imports NumPy when it is called.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Bytes: TypeAlias = NDArray[np.uint8]
    Blocks: TypeAlias = NDArray[np.void]
    Floats: TypeAlias = NDArray[np.float32]

Decode: TypeAlias = "Callable[[Encoding, Bytes, Floats], None]"
"""Writes the values of rows ``[rows, row_bytes]`` to ``[rows, K]``."""

Encode: TypeAlias = "Callable[[Encoding, Floats], Bytes]"
"""Makes rows ``[rows, row_bytes]`` of values ``[rows, K]``."""

OfBlocks: TypeAlias = "Callable[[Blocks, NDArray[Any]], None]"
"""Writes something of `n` blocks to an array ``[n, ...]``."""


@dataclass(frozen=True)
class Coded:
    """How a format's blocks are taken apart into codes and scales.

    A value is ``(code - 2**(bits - 1)) * scale``, plus an offset where the format has offsets. This
    is what ONNX Runtime's block-quantized operators take.

    Attributes:
        fields: Names and NumPy types of the parts of a block, in the order of its bytes. Codes are
            opaque runs of bytes: NumPy copies whole ones many times faster than rows of elements.
            ``d`` is what all values of a block are proportional to; what is subtracted from them
            may be so to ``dmin`` instead.
        bits: Bits of a code, 4 or 8.
        group: Elements that share a scale.
        codes: Writes unsigned codes, ``[n, block_size * bits / 8]`` uint8; at four bits a byte has
            two neighbours, the first in its low nibble.
        scales: Writes scales, ``[n, block_size / group]`` float32.
        offsets: Writes what is added to each group's values, shaped like the scales.
        signed: For formats whose values are ``d`` times a signed code, 32 to a block: writes those
            codes, ``[n, 32]``, in two's complement. What has it is q8_0 in fewer bits.
    """

    fields: Sequence[tuple[str, str] | tuple[str, str, int]]
    bits: int
    group: int
    codes: OfBlocks
    scales: OfBlocks
    offsets: OfBlocks | None = None
    signed: OfBlocks | None = None

    @property
    def dtype(self) -> np.dtype[np.void]:
        """A block as NumPy sees it."""
        import numpy as np

        return np.dtype(list(self.fields))


@dataclass(frozen=True)
class Encoding:
    """A block format.

    Attributes:
        name: ggml's name in lower case, as ``q4_0``.
        ggml_type: ggml's number for it, as stored in GGUF files.
        block_size: Elements in a block.
        block_bytes: Bytes of a block.
        decode: Decodes rows exactly; None for a format that is known by its size only.
        encode: Encodes rows bit for bit as ggml's reference does; None where that cannot.
        element: NumPy's name of the type, for formats of single numbers; else empty.
        coded: How blocks are taken apart, for formats that have codes.
        successor: What is used in its place, where ggml has given it up; else empty.
    """

    name: str
    ggml_type: int
    block_size: int
    block_bytes: int
    decode: Decode | None = None
    encode: Encode | None = None
    element: str = ""
    coded: Coded | None = None
    successor: str = ""

    @property
    def supported(self) -> bool:
        """Whether tensors in this encoding can be run, not only listed."""
        return self.decode is not None

    @property
    def bits(self) -> float:
        """Bits that an element takes, with its share of what the block has beside codes."""
        return 8 * self.block_bytes / self.block_size

    @property
    def exact_in_q8_0(self) -> bool:
        """Whether q8_0 holds the same values with the same scales."""
        return self.coded is not None and self.coded.signed is not None

    def row_bytes(self, k: int) -> int:
        """Bytes of a row of `k` elements.

        Raises:
            ValueError: `k` is not a multiple of the block size.
        """
        blocks, rest = divmod(k, self.block_size)
        if rest:
            raise ValueError(f"a row of {k} is not a multiple of {self.name}'s {self.block_size}")
        return blocks * self.block_bytes

    def row_length(self, row_bytes: int) -> int:
        """Elements of a row of `row_bytes` bytes.

        Raises:
            ValueError: `row_bytes` is not a multiple of the bytes of a block.
        """
        blocks, rest = divmod(row_bytes, self.block_bytes)
        if rest:
            raise ValueError(f"{row_bytes} bytes are not whole {self.name} blocks")
        return blocks * self.block_size

    def __str__(self) -> str:
        return self.name


def decode_by_gguf(encoding: Encoding, raw: Bytes, values: Floats) -> None:
    """Decodes rows ``[rows, row_bytes]`` as the `gguf` package does."""
    import numpy as np
    from gguf.constants import GGMLQuantizationType
    from gguf.quants import dequantize

    # Scales that are not finite are the file's own; they decode to what they say.
    with np.errstate(over="ignore", invalid="ignore"):
        values[...] = dequantize(raw, GGMLQuantizationType(encoding.ggml_type))


def encode_by_gguf(encoding: Encoding, values: Floats) -> Bytes:
    """Encodes values ``[rows, K]`` as the `gguf` package does, and so ggml."""
    import numpy as np
    from gguf.constants import GGMLQuantizationType
    from gguf.quants import quantize

    # Blocks of tiny or huge values overflow on the way, in ggml as here.
    with np.errstate(all="ignore"):
        return quantize(values, GGMLQuantizationType(encoding.ggml_type)).view(np.uint8)


def scales_are_d(blocks: Blocks, out: NDArray[Any]) -> None:
    """`Coded.scales` of a format whose block has one scale, ``d``."""
    out[:, 0] = blocks["d"]


def offsets_from(middle: int) -> OfBlocks:
    """`Coded.offsets` of a format ``d * q + m`` whose codes are counted from the middle."""

    def write(blocks: Blocks, out: NDArray[Any]) -> None:
        out[:, 0] = blocks["d"]
        out *= middle
        out[:, 0] += blocks["m"]

    return write


def codes_are_nibbles(blocks: Blocks, out: Bytes) -> None:
    """`Coded.codes` of a format of four bits, whose bytes have the elements i and i + 16."""
    from pipelines.common.encodings.nibbles import regroup

    regroup(blocks["codes"], out)


def spread_nibbles(blocks: Blocks, out: Bytes) -> None:
    """Writes such codes to a byte each, ``[n, 32]``."""
    _spread(blocks["codes"], out)


def spread_five_bits(blocks: Blocks, out: Bytes) -> None:
    """Writes such codes with a fifth bit to a byte each, ``[n, 32]``.

    Bit i of the four bytes ``high``, read as one little-endian number, is that of element i.
    """
    import numpy as np

    spread_nibbles(blocks, out)
    high = np.ascontiguousarray(blocks["high"]).view(np.uint8).reshape(-1, 4)
    fifth = np.unpackbits(high, axis=1, bitorder="little")
    fifth <<= 4
    out |= fifth


def codes_are_five_bits(blocks: Blocks, out: Bytes) -> None:
    """`Coded.codes` of such a format: widened to eight bits, which moves the middle to 128."""
    spread_five_bits(blocks, out)
    out += 128 - 16


def look_up(values: Sequence[int], runs: Blocks, out: Bytes) -> None:
    """Writes what codes stand for, of runs of 16 bytes ``[n]``: ``[n, 32]`` in two's complement."""
    import numpy as np

    _spread(runs, out)
    np.take(np.array(values, np.int8).view(np.uint8), out, out=out, mode="clip")


def _spread(runs: Blocks, out: Bytes) -> None:
    out.view("V16")[:, 0] = runs
    out[:, 16:] = out[:, :16] >> 4
    out[:, :16] &= 0x0F
