"""How tensors come into memory."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from pipelines.common.checkpoints.checkpoint import TensorInfo
from pipelines.common.checkpoints.model_file import ModelFile
from pipelines.common.checkpoints.opening import Opening
from pipelines.common.encodings import F32
from pipelines.common.errors import ModelFileError, ParameterError

VALUES = np.arange(3 * (1 << 20), dtype=np.float32).reshape(3, -1)
TENSOR = TensorInfo("w", VALUES.shape, F32, 8, VALUES.nbytes)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "model"
    path.write_bytes(bytes(8) + VALUES.tobytes())
    return path


@pytest.mark.parametrize("weights", ["mmap", "heap"])
@pytest.mark.parametrize("rows", [None, (0, 1), (1, 3)])
def test_both_ways_give_the_same_bytes(path: Path, weights: str, rows: tuple | None) -> None:
    raw = ModelFile(path, weights, "a file").raw(TENSOR, rows)
    np.testing.assert_array_equal(raw.view(np.float32), VALUES[slice(*rows or (None,))])
    assert not raw.flags.writeable


def test_what_is_read_is_not_the_files(path: Path) -> None:
    file = ModelFile(path, "heap", "a file")
    raw = file.raw(TENSOR)
    assert np.shares_memory(raw, file.raw(TENSOR))  # while somebody holds it
    with path.open("r+b") as changed:
        changed.seek(8)
        changed.write(b"\1" * 4096)
    file.release(TENSOR)
    np.testing.assert_array_equal(raw.view(np.float32), VALUES)
    del raw
    assert file.raw(TENSOR)[0, 0] == 1  # let go of, it is read again


def test_a_file_that_has_become_shorter(path: Path) -> None:
    file = ModelFile(path, "heap", "a file")
    os.truncate(path, 1 << 20)
    with pytest.raises(ModelFileError, match="was cut short while it was read"):
        file.raw(TENSOR)


def test_other_ways_are_refused() -> None:
    with pytest.raises(ParameterError, match="`weights` is 'gpu'; expected mmap or heap"):
        Opening("gpu")  # type: ignore[arg-type]
