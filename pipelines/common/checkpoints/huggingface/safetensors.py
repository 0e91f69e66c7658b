"""A strict reader of safetensors files: https://github.com/huggingface/safetensors#format.

Eight bytes say how long the header is, a JSON object; then come the tensors, without gaps. The
`safetensors` package copies what it hands to NumPy, and has no bfloat16 there; here tensors are
parts of the mapped file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from operator import attrgetter
from typing import Any, Final

from pipelines.common.checkpoints.checkpoint import TensorInfo
from pipelines.common.checkpoints.json_file import parse_object
from pipelines.common.checkpoints.model_file import ModelFile
from pipelines.common.encodings import BF16, F16, F32, Encoding
from pipelines.common.errors import ModelFileError, quoted

_LENGTH_BYTES: Final = 8
_MAX_HEADER_BYTES: Final = 100_000_000
"""As the format's own library has it."""

_MAX_DIMENSIONS: Final = 8
_METADATA: Final = "__metadata__"

ENCODINGS: Final[Mapping[str, Encoding]] = {"F32": F32, "F16": F16, "BF16": BF16}

_OTHERS: Final[Mapping[str, Encoding]] = {
    name: Encoding(name.lower(), -1, 1, nbytes)
    for name, nbytes in {
        "BOOL": 1,
        "U8": 1,
        "I8": 1,
        "F8_E4M3": 1,
        "F8_E5M2": 1,
        "F8_E8M0": 1,
        "I16": 2,
        "U16": 2,
        "I32": 4,
        "U32": 4,
        "I64": 8,
        "U64": 8,
        "F64": 8,
    }.items()
}
"""Known by size only, so that files that hold them can be checked and listed."""


def read_tensors(file: ModelFile) -> dict[str, TensorInfo]:
    """The tensors of a file by their names there, in the order of its bytes.

    Raises:
        ModelFileError: It is not sound.
    """
    size = len(file.data)
    length = int.from_bytes(file.data[:_LENGTH_BYTES], "little")
    if size < _LENGTH_BYTES or length > size - _LENGTH_BYTES:
        raise ModelFileError(
            f"{file.path}: is no safetensors file, or is cut short: its header takes {length}"
            f" bytes, the file has {size}"
        )
    if length > _MAX_HEADER_BYTES:
        raise ModelFileError(
            f"{file.path}: its header takes {length} bytes, expected at most {_MAX_HEADER_BYTES}"
        )
    start = _LENGTH_BYTES + length
    header = parse_object(file.data[_LENGTH_BYTES:start], f"{file.path}: its header")
    header.pop(_METADATA, None)
    tensors = [_tensor(file, name, entry, start) for name, entry in header.items()]
    tensors.sort(key=attrgetter("offset"))
    _check_no_gaps(file, tensors, start, size)
    return {tensor.name: tensor for tensor in tensors}


def _tensor(file: ModelFile, name: str, entry: Any, start: int) -> TensorInfo:
    """What the header says of a tensor."""
    what = f"{file.path}: tensor {quoted(name)}"
    match entry:
        case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [int(first), int(last)]}:
            pass
        case _:
            raise ModelFileError(f"{what} is described otherwise than the format has it")
    encoding = ENCODINGS.get(dtype) or _OTHERS.get(dtype)
    if encoding is None:
        raise ModelFileError(f"{what} is of the type {quoted(dtype)}, which is not known")
    if len(shape) > _MAX_DIMENSIONS or not all(type(n) is int and 0 <= n < 2**48 for n in shape):
        raise ModelFileError(f"{what} has the shape {quoted(str(shape))}, which no tensor has")
    nbytes = math.prod(shape) * encoding.row_bytes(1)
    if last - first != nbytes or first < 0:
        raise ModelFileError(
            f"{what} is {dtype} {shape}, which takes {nbytes} bytes, and lies from byte {first} to"
            f" {last}"
        )
    return TensorInfo(name, tuple(shape) or (1,), encoding, start + first, nbytes)


def _check_no_gaps(file: ModelFile, tensors: list[TensorInfo], start: int, size: int) -> None:
    """Checks that tensors are all that there is, and lie apart."""
    ends = [start, *(tensor.offset + tensor.nbytes for tensor in tensors)]
    for tensor, end in zip(tensors, ends, strict=False):
        if tensor.offset != end:
            raise ModelFileError(
                f"{file.path}: tensor {quoted(tensor.name)} begins at byte {tensor.offset},"
                f" expected {end}: tensors overlap, or there are gaps between them"
            )
    if ends[-1] != size:
        raise ModelFileError(
            f"{file.path}: is cut short or damaged: its tensors end at byte {ends[-1]}, the file"
            f" has {size}"
        )
