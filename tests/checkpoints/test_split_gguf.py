"""Models in several GGUF files, as the `gguf` package splits them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest

from pipelines.common.cache import Cache
from pipelines.common.checkpoints.gguf.reader import open_gguf
from pipelines.common.checkpoints.opening import Opening
from pipelines.common.errors import ModelFileError

TENSORS = {
    f"blk.{n}.w": np.random.default_rng(n).random((3, 32)).astype(np.float32) for n in range(5)
}


def split(folder: Path, name: str = "model", tensors: int = 2) -> list[Path]:
    """Writes five tensors, so many to a file."""
    folder.mkdir(exist_ok=True)
    writer = gguf.GGUFWriter(folder / f"{name}.gguf", "llama", split_max_tensors=tensors)
    writer.add_uint32("llama.block_count", 5)
    for tensor, values in TENSORS.items():
        writer.add_tensor(tensor, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return sorted(folder.glob(f"{name}-*.gguf"))


@pytest.mark.parametrize("weights", ["mmap", "heap"])
@pytest.mark.parametrize("named", [0, 1, 2])
def test_any_part_opens_the_whole_model(tmp_path: Path, named: int, weights: str) -> None:
    paths = split(tmp_path)
    assert len(paths) == 3
    file = open_gguf(paths[named], Opening(weights))
    assert file.format == "GGUF v3, 3 files"
    assert file.metadata["llama.block_count"] == 5
    assert list(file.tensors) == list(TENSORS)
    for name, values in TENSORS.items():
        np.testing.assert_array_equal(file.raw(name).view(np.float32), values)
        np.testing.assert_array_equal(file.raw(name, (1, 3)).view(np.float32), values[1:])
        assert not file.raw(name).flags.writeable
        file.release(name)
    assert file.path == paths[named]


def test_every_part_counts_in_the_fingerprint(tmp_path: Path) -> None:
    paths = split(tmp_path)
    digests = Cache(tmp_path / "cache").digests
    before = open_gguf(paths[0]).fingerprint(digests)
    assert open_gguf(paths[2]).fingerprint(digests) == before
    with paths[2].open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x7f")
    assert open_gguf(paths[0]).fingerprint(digests) != before


def test_links_to_files_of_other_names_are_followed(tmp_path: Path) -> None:
    """As in the cache of Hugging Face's hub, whose blobs are named by digests."""
    snapshot = tmp_path / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    for number, path in enumerate(split(tmp_path / "blobs")):
        blob = path.rename(path.with_name(f"digest{number}"))
        (snapshot / path.name).symlink_to(blob)
    assert len(open_gguf(sorted(snapshot.iterdir())[1]).tensors) == 5


def missing(paths: list[Path]) -> None:
    paths[1].unlink()
    paths[2].unlink()


def there_twice(paths: list[Path]) -> None:
    shutil.copy(paths[1], paths[2])


def renamed(paths: list[Path]) -> None:
    paths[0].rename(paths[0].with_name("other.gguf"))


def of_another_split(paths: list[Path]) -> None:
    other = split(paths[0].parent / "other", tensors=4)
    assert len(other) == 2
    shutil.copy(other[1], paths[1])


def of_another_model(paths: list[Path]) -> None:
    TENSORS["blk.9.w"] = TENSORS.pop("blk.4.w")
    try:
        other = split(paths[0].parent / "other", tensors=2)
    finally:
        TENSORS["blk.4.w"] = TENSORS.pop("blk.9.w")
    writer = gguf.GGUFReader(other[0])  # the names of its tensors are those of the second part
    assert writer.tensors
    data = other[0].read_bytes().replace(b"blk.0.w", b"blk.3.w")
    number = data.index(b"split.no") + len(b"split.no") + 4
    paths[1].write_bytes(data[:number] + b"\1" + data[number + 1 :])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (missing, "part 1 of 3 of a model; not beside it: model-00002-of-00003.gguf, model-00003"),
        (there_twice, "says that it is part 2 of 3 of a model, expected 3 of 3"),
        (of_another_split, "says that it is part 2 of 2 of a model, expected 2 of 3"),
        (of_another_model, "is of another model than model-00003-of-00003.gguf: both|have"),
    ],
)
def test_what_does_not_belong_together(
    tmp_path: Path, change: Callable[[list[Path]], None], message: str
) -> None:
    paths = split(tmp_path)
    change(paths)
    with pytest.raises(ModelFileError, match=message) as raised:
        open_gguf(paths[0])
    assert "\n" not in str(raised.value)


def test_a_part_by_another_name(tmp_path: Path) -> None:
    paths = split(tmp_path)
    renamed(paths)
    with pytest.raises(ModelFileError, match=r"part 1 of 3 .* expected NAME-00001-of-00003.gguf"):
        open_gguf(tmp_path / "other.gguf")


def test_a_tensor_too_few(tmp_path: Path) -> None:
    paths = split(tmp_path)
    data = paths[0].read_bytes()
    number = data.index(b"split.tensors.count") + len(b"split.tensors.count") + 4
    for path in paths:
        data = path.read_bytes()
        number = data.index(b"split.tensors.count") + len(b"split.tensors.count") + 4
        path.write_bytes(data[:number] + b"\6" + data[number + 1 :])
    with pytest.raises(ModelFileError, match="all parts of the model have 6 tensors, they have 5"):
        open_gguf(paths[0])
