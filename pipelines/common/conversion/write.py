"""Writes a checkpoint of any format as a GGUF file, tensor by tensor and a few rows at a time."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipelines.common.checkpoints.checkpoint import Checkpoint, TensorInfo
from pipelines.common.checkpoints.gguf.rotation import row_orders
from pipelines.common.checkpoints.gguf.write import gguf_file
from pipelines.common.conversion.difference import Difference
from pipelines.common.conversion.wanted import Wanted
from pipelines.common.disk import new_file
from pipelines.common.encodings import F16, F32, Encoding
from pipelines.common.encodings.convert import convert_rows, dequantize
from pipelines.common.errors import ModelFileError, quoted
from pipelines.common.files import resolved
from pipelines.common.parallel import for_row_chunks
from pipelines.common.progress import Progress

if TYPE_CHECKING:
    from pipelines.common.checkpoints.gguf.write import Put


@dataclass(frozen=True)
class Written:
    """A tensor as it was, and as it was written.

    Attributes:
        stored: As it was.
        tensor: As it was written.
        difference: Of its values; None where that was not asked for.
    """

    stored: TensorInfo
    tensor: TensorInfo
    difference: Difference | None


def write(
    checkpoint: Checkpoint,
    path: Path,
    metadata: Mapping[str, Any],
    wanted: Wanted,
    progress: Progress,
    *,
    check: bool = False,
) -> list[Written]:
    """Writes the file; it appears as a whole or not at all.

    Memory is taken for the rows that are worked on, and where a format joins a tensor of several
    files, for that.

    Args:
        checkpoint: What to write.
        path: Where to; see `check_free`.
        metadata: All that the file says.
        wanted: What matrices are to be stored in.
        progress: Shown how far it has come.
        check: Whether written values are compared with those that they were made of.

    Returns:
        What was written, in the order of the file.

    Raises:
        ModelFileError: The file cannot be written, or a tensor cannot be what is wanted.
    """
    orders = row_orders(checkpoint)
    written = [
        Written(tensor, _planned(tensor, wanted, checkpoint.path), Difference() if check else None)
        for tensor in checkpoint.tensors.values()
    ]
    total = sum(each.tensor.nbytes for each in written)
    try:
        _check_room(path, total)
        with (
            new_file(path) as staged,
            gguf_file(staged, metadata, [each.tensor for each in written]) as put,
            progress.counted(f"writing {path.name}", total) as done,
        ):
            for each in written:
                _write_tensor(checkpoint, each, orders.get(each.tensor.name), put, done)
                checkpoint.release(each.tensor.name)
    except OSError as error:
        raise _not_writable(path, error) from error
    return written


def check_free(path: Path, checkpoint: Checkpoint) -> None:
    """Makes sure that nothing is lost by writing a file.

    Raises:
        ModelFileError: There is something in its place already, or no folder to write into.
    """
    if resolved(path) == resolved(checkpoint.path):
        raise ModelFileError(f"{path}: is the model that is read; name another file to write")
    if os.path.lexists(path):
        raise ModelFileError(f"{path}: is there already; name another file, or delete it first")
    if not path.parent.is_dir():
        raise ModelFileError(f"{path}: there is no folder {path.parent}; make it first")


def _planned(tensor: TensorInfo, wanted: Wanted, source: Path) -> TensorInfo:
    encoding = wanted.of(tensor, source)
    nbytes = tensor.rows * encoding.row_bytes(tensor.row_length)
    return replace(tensor, encoding=encoding, offset=0, nbytes=nbytes)


def _check_room(path: Path, nbytes: int) -> None:
    """Says at once what would show after minutes.

    Raises:
        OSError: The disk has no room for so much.
    """
    if shutil.disk_usage(path.parent).free < nbytes:
        raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)} for its {nbytes >> 20} MiB")


def _not_writable(path: Path, error: OSError) -> ModelFileError:
    said = error.strerror or error
    return ModelFileError(f"cannot write {path}: {said}; make room there, or name another file")


def _write_tensor(
    checkpoint: Checkpoint,
    each: Written,
    order: NDArray[np.intp] | None,
    put: Put,
    done: Callable[[int], None],
) -> None:
    stored, encoding, name = each.stored.encoding, each.tensor.encoding, each.tensor.name
    raw = checkpoint.raw(name)
    if len(each.tensor.shape) == 1 and order is not None:
        # All rows of a vector are one: its elements are what is to be moved.
        raw, stored, order = dequantize(stored, raw)[:, order].view(np.uint8), F32, None
    row_bytes = encoding.row_bytes(each.tensor.row_length)

    def work(chunk: slice) -> None:
        rows = raw[chunk] if order is None else raw[order[chunk]]
        made = rows if stored == encoding else convert_rows(stored, encoding, rows)
        if stored != encoding:
            _check_finite(each.tensor, encoding, made, checkpoint.path)
        put(name, chunk.start * row_bytes, np.ascontiguousarray(made))
        if each.difference is not None:
            each.difference.add(_values(stored, rows), _values(encoding, made))
        done(made.nbytes)

    for_row_chunks(len(raw), each.tensor.row_length, work)


def _values(encoding: Encoding, rows: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The values of rows, on this thread."""
    assert encoding.decode is not None
    values = np.empty((len(rows), encoding.row_length(rows.shape[1])), np.float32)
    encoding.decode(encoding, np.ascontiguousarray(rows), values)
    return values


def _check_finite(
    tensor: TensorInfo, encoding: Encoding, rows: NDArray[np.uint8], source: Path
) -> None:
    """Makes sure that values fit: float16, which scales are in as well, ends at 65,504.

    Raises:
        ModelFileError: They do not.
    """
    if encoding == F16:
        halves = [rows.view(np.float16)]
    elif encoding.coded is not None:
        blocks = rows.reshape(-1).view(encoding.coded.dtype)
        names = [field[0] for field in encoding.coded.fields if field[1] == "<f2"]
        halves = [blocks[name] for name in names]
    else:
        return
    if not all(np.isfinite(each).all() for each in halves):
        raise ModelFileError(
            f"{source}: tensor {quoted(tensor.name)} has values that are too large for {encoding},"
            " or are not numbers; use bf16"
        )
