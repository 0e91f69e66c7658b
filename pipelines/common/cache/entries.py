"""What an entry of the cache is: its files, and the record of them that makes it complete."""

from __future__ import annotations

import json
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.common.cache.digests import Digests, content_digest
from pipelines.common.disk import sync

RECORD = "meta.json"


@dataclass(frozen=True)
class CacheEntry:
    """One complete entry.

    Attributes:
        kind: One of `KINDS`.
        key: The digest of all that the entry was made from.
        path: Its directory.
        size_bytes: What its files hold.
        last_used: When it was last written or asked for, seconds since the epoch.
        description: One line for people.
    """

    kind: str
    key: str
    path: Path
    size_bytes: int
    last_used: float
    description: str


def seal(folder: Path, description: str, digests: Digests) -> None:
    """Makes sure that an entry's files are on the disk, then writes the record of them.

    Raises:
        OSError: They cannot be written.
    """
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                digest = content_digest(file.fileno())
                digests.note(file.fileno(), digest)
            name = path.relative_to(folder).as_posix()
            files[name] = {"bytes": path.stat().st_size, "digest": digest}
        sync(path)
    (folder / RECORD).write_text(json.dumps({"description": description, "files": files}))
    sync(folder / RECORD)
    sync(folder)


def read_entry(kind: str, folder: Path) -> CacheEntry | None:
    """The entry in a folder; None when it lacks something. The content of files is not read."""
    try:
        record = _read_record(folder)
        status = (folder / RECORD).stat()
        return CacheEntry(
            kind=kind,
            key=folder.name,
            path=folder,
            size_bytes=sum(file["bytes"] for file in record["files"].values()) + status.st_size,
            last_used=status.st_mtime,
            description=record["description"],
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def is_sound(folder: Path, digests: Digests, most: int | None = None) -> bool:
    """Whether an entry's files hold what was written to them.

    Args:
        folder: The entry's directory.
        digests: What is known of large files.
        most: Bytes of a file up to which it is read; None reads all that are to be read.
    """
    try:
        for name, recorded in _read_record(folder)["files"].items():
            if most is not None and recorded["bytes"] > most:
                continue
            with (folder / name).open("rb") as file:
                if not digests.confirm(file.fileno(), recorded["digest"]):
                    return False
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
    return True


def _read_record(folder: Path) -> Mapping[str, Any]:
    """The record of an entry whose files are all there.

    Raises:
        OSError: The record, or one of the files, is missing or cannot be read.
        ValueError: The record is no JSON, or a file has another size.
        KeyError: The record lacks something; `TypeError` and `AttributeError` likewise.
    """
    _file_bytes(folder / RECORD)
    record: Mapping[str, Any] = json.loads((folder / RECORD).read_bytes())
    for name, recorded in record["files"].items():
        if _file_bytes(folder / name) != recorded["bytes"]:
            raise ValueError(f"{name} has another size than when it was written")
    return record


def _file_bytes(path: Path) -> int:
    """The size of a file; anything else is not even opened, since a pipe would wait for a writer.

    Raises:
        OSError: There is none.
        ValueError: It is no file.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"{path} is no file")
    return status.st_size
