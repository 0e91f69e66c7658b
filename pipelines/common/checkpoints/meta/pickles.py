"""The tensors of ``.pth`` files, which PyTorch maps and in which no code is run."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from pipelines.common.checkpoints.checkpoint import open_file
from pipelines.common.encodings import BF16, F16, F32, Encoding
from pipelines.common.errors import DependencyError, ModelFileError, one_line, quoted

if TYPE_CHECKING:
    from torch import Tensor

_ENCODINGS: Final[Mapping[str, Encoding]] = {
    "torch.float32": F32,
    "torch.float16": F16,
    "torch.bfloat16": BF16,
}


def load(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by name, mapped.

    Raises:
        ModelFileError: It cannot be read, is no such file, or holds anything but tensors.
        DependencyError: PyTorch is not installed.
    """
    try:
        import torch
    except ModuleNotFoundError as error:
        raise DependencyError(
            f"{path}: is read by PyTorch, which is not installed; install torch, or name a GGUF"
            " file or a folder with safetensors of the model"
        ) from error
    with open_file(path) as file:
        if not zipfile.is_zipfile(file):  # its directory is at its end
            raise ModelFileError(
                f"{path}: is no file that PyTorch has written since its version 1.6, or is cut"
                " short; expected a zip archive of tensors"
            )
    try:
        found: Any = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelFileError(
            f"{path}: has more in it than tensors, which could be code that is run when it is"
            " read; expected tensors alone"
        ) from error
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (RuntimeError, ValueError, KeyError, EOFError, AttributeError, TypeError) as error:
        raise ModelFileError(
            f"{path}: is not as PyTorch has written it: {quoted(one_line(error))}"
        ) from error
    if not isinstance(found, dict) or not found:
        raise ModelFileError(f"{path}: holds a {type(found).__name__}, expected tensors by name")
    for name, tensor in found.items():
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
            raise ModelFileError(f"{path}: {quoted(str(name))} is no tensor")
        if str(tensor.dtype) not in _ENCODINGS or not tensor.is_contiguous() or not tensor.numel():
            raise ModelFileError(
                f"{path}: tensor {quoted(name)} is {tensor.dtype} {[*tensor.shape]} in a layout of"
                " its own; expected one of bfloat16, float16 or float32, row after row"
            )
    return found


def encoding_of(tensor: Tensor) -> Encoding:
    """What the elements of a tensor are."""
    return _ENCODINGS[str(tensor.dtype)]


def bytes_of(tensor: Tensor) -> NDArray[np.uint8]:
    """A tensor's bytes where they are, ``[rows, row_bytes]``."""
    import torch

    rows = tensor.reshape(-1, tensor.shape[-1])
    raw: NDArray[np.uint8] = rows.view(torch.uint8).numpy()
    return raw
