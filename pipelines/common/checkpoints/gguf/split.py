"""Models in several GGUF files, as llama.cpp's ``llama-gguf-split`` makes them.

Each file says which of how many it is, and how many tensors all have together; the first has the
metadata of the model. That they belong together is in their names alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from pipelines.common.checkpoints.checkpoint import Metadata
from pipelines.common.errors import ModelFileError, listed, quoted
from pipelines.common.files import exists

_NUMBER, _COUNT, _TENSORS = "split.no", "split.count", "split.tensors.count"
_MOST: Final = 1 << 12
_NAME: Final = re.compile(r"(?P<stem>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})(?P<suffix>\.\w+)")


def parts_beside(path: Path, metadata: Metadata) -> list[Path]:
    """All files of the model that a file is a part of, the first one first; itself, if it is whole.

    Args:
        path: The file, under the name that it was given by: links may lead to files of other names.
        metadata: What it says.

    Raises:
        ModelFileError: Its name does not say where the others are, or there is one missing.
    """
    count = metadata.integer(_COUNT, 1)
    if count <= 1:
        return [path]
    number = metadata.integer(_NUMBER)
    if count > _MOST or not 0 <= number < count:
        raise ModelFileError(
            f"{path}: is part {number} of {count} of a model, counted from 0; expected less than"
            f" the count, and at most {_MOST} parts"
        )
    named = _NAME.fullmatch(path.name)
    if named is None or (int(named["number"]), int(named["count"])) != (number + 1, count):
        raise ModelFileError(
            f"{path}: is part {number + 1} of {count} of a model, and the others are found by its"
            f" name; expected NAME-{number + 1:05}-of-{count:05}.gguf"
        )
    paths = [
        path.with_name(f"{named['stem']}-{each:05}-of-{count:05}{named['suffix']}")
        for each in range(1, count + 1)
    ]
    if missing := [each.name for each in paths if not exists(each)]:
        raise ModelFileError(
            f"{path}: is part {number + 1} of {count} of a model; not beside it: {listed(missing)}"
        )
    return paths


def check_parts(paths: Sequence[Path], parts: Sequence[tuple[Metadata, Mapping[str, Any]]]) -> None:
    """Checks that files are the parts of one model, in their order.

    Args:
        paths: Where they are.
        parts: The metadata and the tensors of each.

    Raises:
        ModelFileError: One is another part than its name says, or of another model.
    """
    first, _ = parts[0]
    owners: dict[str, Path] = {}
    for number, (path, (metadata, tensors)) in enumerate(zip(paths, parts, strict=True)):
        said = metadata.integer(_NUMBER, 0), metadata.integer(_COUNT, 1)
        if said != (number, len(paths)):
            raise ModelFileError(
                f"{path}: says that it is part {said[0] + 1} of {said[1]} of a model, expected"
                f" {number + 1} of {len(paths)}; bring back the files as they were made"
            )
        for key in metadata.keys() & first.keys() - {_NUMBER}:
            if metadata.describe(key) != first.describe(key):
                raise ModelFileError(
                    f"{path}: is of another model than {paths[0].name}: {quoted(key)} is the"
                    f" {metadata.describe(key)} and the {first.describe(key)}"
                )
        for name in tensors:
            if name in owners:
                raise ModelFileError(
                    f"{path}: is of another model than {owners[name].name}: both have tensor"
                    f" {quoted(name)}"
                )
            owners[name] = path
    total = first.integer(_TENSORS, len(owners))
    if total != len(owners):
        raise ModelFileError(
            f"{paths[0]}: says that all parts of the model have {total} tensors, they have"
            f" {len(owners)}; bring back the files as they were made"
        )
