"""Writes GGUF files: what stands before the data by the `gguf` package, tensors as they come."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from pipelines.common.checkpoints.checkpoint import Checkpoint, TensorInfo

if TYPE_CHECKING:
    import numpy as np
    from gguf import GGUFValueType
    from numpy.typing import NDArray

    Put: TypeAlias = Callable[[str, int, NDArray[np.uint8]], None]
    """Writes bytes of a tensor, given its name and where in it they begin; from any thread."""

_ARCHITECTURE: Final = "general.architecture"
_ALIGNMENT: Final = 32
_LARGEST_FLOAT32: Final = 3.4028234663852886e38


def write_gguf(checkpoint: Checkpoint, path: Path) -> Path:
    """Writes metadata and tensors as they are; empty arrays are left out.

    Args:
        checkpoint: What to write.
        path: Where to.

    Returns:
        The path.

    Raises:
        ModelFileError: A tensor's encoding is one that is only listed.
        OSError: The file cannot be written.
    """
    with gguf_file(path, checkpoint.metadata, [*checkpoint.tensors.values()]) as put:
        for name in checkpoint.tensors:
            put(name, 0, checkpoint.raw(name))
    return path


@contextmanager
def gguf_file(
    path: Path, metadata: Mapping[str, Any], tensors: Sequence[TensorInfo]
) -> Iterator[Put]:
    """A file that has everything but the values of its tensors, which are put into it.

    Args:
        path: Where to write it.
        metadata: All key-value pairs; empty arrays, which GGUF's writers have not, are left out.
        tensors: What there will be, in this order; of each the name, shape and encoding counts.

    Yields:
        What puts bytes into a tensor, in any order.

    Raises:
        OSError: The file cannot be written.
    """
    import gguf
    import numpy as np

    writer = gguf.GGUFWriter(path, metadata[_ARCHITECTURE])
    for key, value in metadata.items():
        if key != _ARCHITECTURE and value != []:
            kind, element = value_type(value), None
            if kind == gguf.GGUFValueType.ARRAY:
                element = _element_type(value)
            writer.add_key_value(key, value, kind, element)
    sizes = [tensor.rows * tensor.encoding.row_bytes(tensor.row_length) for tensor in tensors]
    for tensor, size in zip(tensors, sizes, strict=True):
        number = gguf.GGMLQuantizationType(tensor.encoding.ggml_type)
        writer.add_tensor_info(tensor.name, tensor.shape, np.dtype(np.float32), size, number)
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
    finally:
        writer.close()
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        end = _padded(os.fstat(descriptor).st_size)
        starts: dict[str, int] = {}
        for tensor, size in zip(tensors, sizes, strict=True):
            starts[tensor.name] = end
            end = _padded(end + size)
        os.ftruncate(descriptor, end)

        def put(name: str, offset: int, content: NDArray[np.uint8]) -> None:
            left, position = content.reshape(-1).data, starts[name] + offset
            while left:
                written = os.pwrite(descriptor, left, position)
                left, position = left[written:], position + written

        yield put
    finally:
        os.close(descriptor)


def value_type(value: Any) -> GGUFValueType:
    """The `GGUFValueType` that files have a value of metadata in.

    Numbers are of 32 bits where they fit: readers of GGUF ask for those, and keep floats in no
    more.
    """
    from gguf import GGUFValueType

    match value:
        case bool():
            return GGUFValueType.BOOL
        case int():
            return _integer_type(value, value)
        case float():
            return _float_type([value])
        case str():
            return GGUFValueType.STRING
        case _:
            return GGUFValueType.ARRAY


def _element_type(values: Sequence[Any]) -> GGUFValueType:
    """The one type that all elements of an array have."""
    first = values[0]
    if type(first) is int:
        # Of both signs, also where none is negative, as all writers have it.
        return _integer_type(min(-1, *values), max(values))
    return _float_type(values) if isinstance(first, float) else value_type(first)


def _integer_type(least: int, most: int) -> GGUFValueType:
    from gguf import GGUFValueType

    if least >= 0:
        return GGUFValueType.UINT32 if most < 2**32 else GGUFValueType.UINT64
    return GGUFValueType.INT32 if least >= -(2**31) and most < 2**31 else GGUFValueType.INT64


def _float_type(values: Sequence[float]) -> GGUFValueType:
    from gguf import GGUFValueType

    fits = all(not math.isfinite(v) or abs(v) <= _LARGEST_FLOAT32 for v in values)
    return GGUFValueType.FLOAT32 if fits else GGUFValueType.FLOAT64


def _padded(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
