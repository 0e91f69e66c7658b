"""The experts of gpt-oss, of which a folder has one tensor a layer and matrix.

Floats are turned, ``[experts, inputs, outputs]``, as `transformers` multiplies with them. Codes of
MXFP4 are in rows, ``[experts, outputs, blocks, 16]`` with scales ``[experts, outputs, blocks]``. Of
``gate_up_proj`` every second output is a gate's, beginning with the first, and the others are what
the gates multiply, whose matrices and biases GGUF has apart.

Source: https://github.com/huggingface/transformers (models/gpt_oss, integrations/mxfp4.py).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipelines.common.checkpoints import pages
from pipelines.common.checkpoints.checkpoint import TensorInfo
from pipelines.common.checkpoints.huggingface.sources import Rows, Source, Stored
from pipelines.common.encodings import MXFP4
from pipelines.common.encodings.nibbles import from_neighbours
from pipelines.common.errors import ModelFileError, quoted
from pipelines.common.parallel import for_row_chunks

_STACK: Final = re.compile(r"(.+\.experts\.)(gate_up|down)_proj(|_bias|_blocks|_scales)")
_PARTS: Final = {"gate_up": ("gate_proj", "up_proj"), "down": ("down_proj",)}
_CODE_BYTES: Final = 16
"""Of a block."""


@dataclass(frozen=True)
class _Part:
    """Some outputs of a tensor of floats."""

    info: TensorInfo
    part: Stored
    taken: slice

    def release(self) -> None:
        """See `Source.release`."""
        self.part.release()


class Biases(_Part):
    """Some elements of each row."""

    def raw(self, rows: Rows) -> NDArray[np.uint8]:
        """See `Source.raw`."""
        elements = self.part.raw(rows).view(_element(self.info))
        return np.ascontiguousarray(elements[:, self.taken]).view(np.uint8)


class Turned(_Part):
    """Some columns of each matrix as rows."""

    def raw(self, rows: Rows) -> NDArray[np.uint8]:
        """See `Source.raw`."""
        _, outputs, inputs = self.info.shape
        first, last = rows or (0, self.info.rows)
        made = pages.allocate((last - first, inputs), _element(self.info))

        def turn(chunk: slice) -> None:
            start, stop = first + chunk.start, first + chunk.stop
            while start < stop:
                expert, row = divmod(start, outputs)
                count = min(stop - start, outputs - row)
                matrix = self.part.raw((expert * inputs, (expert + 1) * inputs)).view(made.dtype)
                columns = matrix[:, self.taken][:, row : row + count]
                made[start - first : start - first + count] = columns.T
                start += count

        for_row_chunks(len(made), inputs, turn)
        self.part.release()
        made.flags.writeable = False
        return made.view(np.uint8)


@dataclass(frozen=True)
class Blocks:
    """Some rows of codes and scales as blocks of MXFP4, with the same values.

    Attributes:
        info: What is made of them.
        codes: Two neighbouring elements in a byte.
        scales: A byte for each block.
        taken: Which rows of an expert's, to the last.
    """

    info: TensorInfo
    codes: Stored
    scales: Stored
    taken: slice

    def raw(self, rows: Rows) -> NDArray[np.uint8]:
        """See `Source.raw`."""
        assert MXFP4.coded is not None
        layout, step = MXFP4.coded.dtype, self.taken.step
        first, last = rows or (0, self.info.rows)
        row_bytes = MXFP4.row_bytes(self.info.row_length)
        made = pages.allocate((last - first, row_bytes), np.uint8)

        def pack(chunk: slice) -> None:
            among = step * (first + chunk.start), step * (first + chunk.stop)
            codes = self.codes.raw(among)[self.taken].reshape(-1, _CODE_BYTES)
            blocks = made[chunk].reshape(-1).view(layout)
            blocks["exponent"] = self.scales.raw(among)[self.taken].reshape(-1)
            blocks["codes"] = from_neighbours(codes).view("V16")[:, 0]

        for_row_chunks(len(made), self.info.row_length, pack)
        self.release()
        made.flags.writeable = False
        return made

    def release(self) -> None:
        """See `Source.release`."""
        self.codes.release()
        self.scales.release()


def is_stacked(name: str) -> bool:
    """Whether a tensor of that name is one of those."""
    return _STACK.fullmatch(name) is not None


def unstacked(
    path: Path, stacks: Mapping[str, Stored], gguf_name: Callable[[str], str]
) -> dict[str, Source]:
    """The tensors that GGUF has of them, by its names.

    Args:
        path: The folder, for messages.
        stacks: The tensors, by their names in the folder.
        gguf_name: What GGUF calls a tensor that is named as one expert's would be.

    Raises:
        ModelFileError: A tensor is of another shape or type, there twice, or lacks its scales.
    """
    found: dict[str, Source] = {}
    for name, source in stacks.items():
        match = _STACK.fullmatch(name)
        assert match is not None
        stem, part, form = match.groups()
        if form == "_scales":
            _other(path, stacks, name, "_blocks")
            continue
        parts = _PARTS[part]
        for number, each in enumerate(parts):
            made = gguf_name(f"{stem}{each}.{'bias' if form == '_bias' else 'weight'}")
            if made in found:
                raise ModelFileError(f"{path}: two tensors are {made}, {quoted(name)} is one")
            taken = slice(number, None, len(parts))
            if form == "_blocks":
                scales = _other(path, stacks, name, "_scales")
                found[made] = _blocks(path, name, made, source, scales, taken)
            else:
                found[made] = _floats(path, name, made, source, taken)
    return found


def _other(path: Path, stacks: Mapping[str, Stored], name: str, form: str) -> Stored:
    """The scales of codes, or the codes of scales."""
    wanted = name.rpartition("_")[0] + form
    if wanted not in stacks:
        raise ModelFileError(
            f"{path}: has tensor {quoted(name)} without {quoted(wanted)}; MXFP4 takes both"
        )
    return stacks[wanted]


def _floats(path: Path, name: str, made: str, source: Stored, taken: slice) -> Source:
    """A matrix, or biases, of floats."""
    info = source.info
    is_bias = name.endswith("_bias")
    right = len(info.shape) == (2 if is_bias else 3) and not info.shape[-1] % taken.step
    if not right or not info.encoding.element:
        expected = f"floats [experts, {'' if is_bias else 'inputs, '}outputs]{_parted(taken)}"
        raise _misshaped(path, name, info, expected)
    count = info.shape[-1] // taken.step
    if not is_bias:
        return Turned(_info(made, (info.shape[0], count, info.shape[1]), info), source, taken)
    if taken.step == 1:
        return replace(source, info=replace(info, name=made))
    return Biases(_info(made, (info.shape[0], count), info), source, taken)


def _blocks(
    path: Path, name: str, made: str, codes: Stored, scales: Stored, taken: slice
) -> Blocks:
    """A matrix of codes and scales."""
    shape = codes.info.shape
    if len(shape) != 4 or shape[3] != _CODE_BYTES or shape[1] % taken.step or not _is_bytes(codes):
        expected = f"bytes [experts, outputs, blocks, {_CODE_BYTES}]{_parted(taken)}"
        raise _misshaped(path, name, codes.info, expected)
    if scales.info.shape != shape[:3] or not _is_bytes(scales):
        expected = f"bytes {[*shape[:3]]} for the blocks of {quoted(name)}"
        raise _misshaped(path, scales.info.name, scales.info, expected)
    experts, outputs, count, _ = shape
    rows = experts * outputs
    wide = (experts, outputs // taken.step, count * MXFP4.block_size)
    nbytes = rows // taken.step * count * MXFP4.block_bytes
    return Blocks(
        TensorInfo(made, wide, MXFP4, 0, nbytes),
        replace(codes, info=replace(codes.info, shape=(rows, count * _CODE_BYTES))),
        replace(scales, info=replace(scales.info, shape=(rows, count))),
        taken,
    )


def _parted(taken: slice) -> str:
    """What outputs have to be where a tensor is more than one, for messages."""
    return f" with outputs a multiple of {taken.step}" if taken.step > 1 else ""


def _is_bytes(source: Stored) -> bool:
    return source.info.encoding.name == "u8"


def _info(name: str, shape: tuple[int, ...], of: TensorInfo) -> TensorInfo:
    """A tensor in the encoding of another."""
    return TensorInfo(name, shape, of.encoding, 0, of.encoding.row_bytes(math.prod(shape)))


def _element(info: TensorInfo) -> np.dtype[np.unsignedinteger]:
    """What moves an element of a tensor as it is, whatever it stands for."""
    return np.dtype(f"u{info.encoding.row_bytes(1)}")


def _misshaped(path: Path, name: str, info: TensorInfo, expected: str) -> ModelFileError:
    return ModelFileError(
        f"{path}: tensor {quoted(name)} is {info.encoding} {[*info.shape]}, expected {expected}"
    )
