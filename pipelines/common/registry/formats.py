"""Which weight format a model is of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipelines.common.errors import ModelFileError
from pipelines.common.files import exists, is_folder
from pipelines.common.registry.entries import Entry
from pipelines.common.registry.hookspecs import WeightFormatRecord


def told(formats: Sequence[Entry[WeightFormatRecord]], path: Path) -> Entry[WeightFormatRecord]:
    """The format of a model: of a file by its first bytes, or its name; of a folder by what it has.

    Args:
        formats: Those that there are; the first one that it may be of counts.
        path: The model.

    Raises:
        ModelFileError: There is no such file, it cannot be read, or is of no known format.
    """
    from pipelines.common.checkpoints.checkpoint import open_file

    if is_folder(path):
        for entry in formats:
            if any(exists(path / name) for name in entry.record.files):
                return entry
        files = ", ".join(name for entry in formats for name in entry.record.files)
        raise ModelFileError(
            f"{path} is a folder without a model: expected one of the files {files}, or the files"
            f" of an exported model{_named_instead(formats, path)}"
        )
    magics = [magic for entry in formats for magic in entry.record.magic]
    with open_file(path) as file:
        start = file.read(max(map(len, magics), default=0))
    for entry in formats:
        if start.startswith(entry.record.magic):
            return entry
    for entry in formats:
        if path.name in entry.record.files or path.name.lower().endswith(entry.record.suffixes):
            return entry
    known = ", ".join(entry.record.name for entry in formats)
    raise ModelFileError(
        f"{path} is of no known format: neither its first bytes, {start!r}, nor its name are"
        f" those of {known}"
    )


def _named_instead(formats: Sequence[Entry[WeightFormatRecord]], folder: Path) -> str:
    """What is to be added where a folder holds model files that can be named."""
    suffixes = tuple(suffix for entry in formats for suffix in entry.record.suffixes)
    try:
        models = min(each for each in folder.iterdir() if each.name.lower().endswith(suffixes))
    except (OSError, ValueError):  # it cannot be looked into, or has none
        return ""
    return f"; name a file in it, as {models}"
