"""What an output was made with, in a file beside it, so that no other run goes on with it.

The file is one JSON object: the version of its format, and the settings as the run gave them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from pipelines.common.disk import sync
from pipelines.common.errors import BatchError
from pipelines.common.files import read_document

Settings: TypeAlias = Mapping[str, Any]
"""JSON values by name: all that a row's result depends on, and nothing else."""

_FORMAT = 1
_LARGEST = 16 << 20
_SHOWN_CHARS = 60
_SHOWN_BEFORE = 20


def manifest_path(output: Path) -> Path:
    """Where the manifest of an output is."""
    return output.with_name(f"{output.name}.manifest.json")


def read_manifest(output: Path) -> dict[str, Any] | None:
    """The settings that an output was made with; None when there is no manifest.

    Raises:
        BatchError: The manifest cannot be read, or is none of this format.
    """
    path = manifest_path(output)
    try:
        content = json.loads(read_document(path, _LARGEST))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BatchError(
            f"cannot read {path}: {error.strerror}; make it readable, or choose another `output`"
        ) from error
    except (ValueError, RecursionError):
        content = None
    match content:
        case {"format": int(version), "settings": dict(settings)} if version == _FORMAT:
            return settings
    raise BatchError(
        f"{path} is not the manifest of a batch in format {_FORMAT}; restore it, or choose another "
        "`output`"
    )


def write_manifest(output: Path, settings: Settings) -> None:
    """Writes the manifest of an output; after a crash it is there as a whole or not at all.

    The folder is written to the disk with it, and so the output's name, if it has been made.

    Args:
        output: A file that no other process makes a manifest for, see `OutputFile`.
        settings: What the output is made with.

    Raises:
        BatchError: The manifest cannot be written.
    """
    path = manifest_path(output)
    partial = path.with_name(f"{path.name}.partial")
    # Whatever has that name may be a link to another file: it goes, and is not written to.
    made_here = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    content = json.dumps({"format": _FORMAT, "settings": dict(settings)}, indent=2) + "\n"
    try:
        try:
            partial.unlink(missing_ok=True)
            with os.fdopen(os.open(partial, made_here, 0o666), "w", encoding="utf-8") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        except OSError:
            partial.unlink(missing_ok=True)
            raise
        sync(path.parent)
    except OSError as error:
        raise BatchError(
            f"cannot write {path}: {error.strerror}; make room for it and go on with "
            "`resume`, or choose another `output`"
        ) from error


def check_settings(output: Path, before: Settings, now: Settings) -> None:
    """Makes sure that an output can be gone on with.

    Args:
        output: The output.
        before: What it was made with, see `read_manifest`.
        now: What it would be gone on with.

    Raises:
        BatchError: They differ; it says in what.
    """
    differences = []
    for name in sorted({*before, *now}):
        shown = [
            json.dumps(settings[name], ensure_ascii=False, sort_keys=True)
            if name in settings
            else "not set"
            for settings in (before, now)
        ]
        if shown[0] != shown[1]:
            differences.append("{} {}, now {}".format(name, *_shortened(*shown)))
    if differences:
        raise BatchError(
            f"{output} was begun with other settings: {'; '.join(differences)}; repeat them, or "
            "choose another `output`"
        )


def _shortened(before: str, now: str) -> tuple[str, str]:
    """Both texts, cut to the part in which they begin to differ."""
    if max(len(before), len(now)) <= _SHOWN_CHARS:
        return before, now
    same = len(os.path.commonprefix((before, now)))  # noqa: RUF071 (of characters)
    start = max(0, same - _SHOWN_BEFORE)
    return _part(before, start), _part(now, start)


def _part(text: str, start: int) -> str:
    end = start + _SHOWN_CHARS
    return f"{'…' if start else ''}{text[start:end]}{'…' if end < len(text) else ''}"
