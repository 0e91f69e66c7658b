"""Which files of a folder have its tensors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from pipelines.common.checkpoints.checkpoint import TensorInfo
from pipelines.common.checkpoints.huggingface.safetensors import read_tensors
from pipelines.common.checkpoints.json_file import read_object
from pipelines.common.checkpoints.model_file import ModelFile
from pipelines.common.checkpoints.opening import Opening
from pipelines.common.errors import ModelFileError, listed, quoted
from pipelines.common.files import exists

SUFFIX: Final = ".safetensors"
WHOLE: Final = "model.safetensors"
INDEX: Final = "model.safetensors.index.json"

_MAX_INDEX_BYTES: Final = 64 << 20
_MAX_SHARDS: Final = 1 << 12
_PICKLED: Final = ("pytorch_model.bin", "pytorch_model.bin.index.json")


class Shard(NamedTuple):
    """A file, and its tensors by their names there."""

    file: ModelFile
    tensors: Mapping[str, TensorInfo]


def open_shards(folder: Path, named: str, opening: Opening) -> list[Shard]:
    """The files that have the tensors of a model.

    Args:
        folder: The model's.
        named: The name of the file that was named, which may be none of them.
        opening: How they are opened.

    Raises:
        ModelFileError: There are none, some are missing or not sound, or they do not have the
            tensors that the index says.
    """
    index = folder / INDEX
    if named.endswith(SUFFIX) and named != WHOLE:
        mapping = _weight_map(index) if exists(index) else {}
        if named not in mapping.values():
            return [_open(folder / named, opening)]
        return _open_all(folder, index, mapping, opening)
    if exists(folder / WHOLE):
        return [_open(folder / WHOLE, opening)]
    if exists(index):
        return _open_all(folder, index, _weight_map(index), opening)
    pickled = next((name for name in _PICKLED if exists(folder / name)), None)
    advice = (
        f"; its weights are in {pickled}, which is not read: save it again with transformers,"
        " which writes safetensors"
        if pickled
        else ""
    )
    raise ModelFileError(f"{folder}: has neither {WHOLE} nor {INDEX}{advice}")


def _open(path: Path, opening: Opening) -> Shard:
    file = ModelFile(path, opening.weights, "a safetensors file")
    return Shard(file, read_tensors(file))


def _weight_map(index: Path) -> dict[str, str]:
    """Which file each tensor is in; none that is outside of the folder."""
    mapping: Any = read_object(index, _MAX_INDEX_BYTES).get("weight_map")
    if not isinstance(mapping, dict) or not mapping:
        raise ModelFileError(f"{index}: has no 'weight_map', expected a file for each tensor")
    for tensor, name in mapping.items():
        if not isinstance(name, str) or Path(name).name != name or not name.endswith(SUFFIX):
            raise ModelFileError(
                f"{index}: has tensor {quoted(tensor)} in {quoted(str(name))}, expected a"
                f" {SUFFIX} file beside it"
            )
    return mapping


def _open_all(
    folder: Path, index: Path, mapping: Mapping[str, str], opening: Opening
) -> list[Shard]:
    names = sorted(set(mapping.values()))
    if len(names) > _MAX_SHARDS:
        raise ModelFileError(f"{index}: names {len(names)} files, expected at most {_MAX_SHARDS}")
    if missing := [name for name in names if not exists(folder / name)]:
        raise ModelFileError(f"{index}: names files that are not there: {listed(missing)}")
    shards = [_open(folder / name, opening) for name in names]
    there = {tensor: shard.file.path.name for shard in shards for tensor in shard.tensors}
    count = sum(len(shard.tensors) for shard in shards)
    unlike = [name for name in {**mapping, **there} if mapping.get(name) != there.get(name)]
    if unlike or count != len(there):
        raise ModelFileError(
            f"{index}: does not fit the files that it names; they are of another model, or damaged"
            f" (tensors that are not where it says: {listed(map(quoted, unlike[:6])) or 'twice'})"
        )
    return shards
