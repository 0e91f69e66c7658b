"""Digests of what files hold, found once and remembered by what the file system says of the files.

A file's device, inode, size and times stand for its content once it has been read. The time of
change (ctime) is among them, which the system alone sets: a file that is changed in place is read
again even where its modification time was set back. Whatever is not remembered is read: a file
that was copied, touched or moved has the digest that it had.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, BinaryIO

from pipelines.common.errors import CacheError
from pipelines.common.system import cores

_CHUNK_BYTES = 2 << 20

_SMALL_BYTES = 1 << 20
"""Files up to this size are read by every process, which takes a millisecond."""

_MOST = 512
"""How many digests are remembered."""

_SECOND_NS = 10**9


_small_files: dict[str, str] = {}
"""Digests of the small files that this process has read: of a graph's sources there are hundreds,
and they are asked for again with every other graph."""


class OpenFile:
    """A file that stays open: its name may come to mean another, its content is the one in use.

    Attributes:
        descriptor: A descriptor of it, for reading.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.descriptor = os.dup(file.fileno())
        weakref.finalize(self, os.close, self.descriptor)


def content_digest(descriptor: int) -> str:
    """The hex digest of an open file's content.

    It is the SHA-256 of the file's size and of its chunks' SHA-256s: chunks are hashed side by
    side on every core.

    Raises:
        OSError: The file cannot be read.
    """
    size = os.fstat(descriptor).st_size

    def hashed(start: int) -> bytes:
        return hashlib.sha256(os.pread(descriptor, _CHUNK_BYTES, start)).digest()

    starts = range(0, size, _CHUNK_BYTES)
    if len(starts) <= 1:
        chunks = [hashed(start) for start in starts]
    else:
        with ThreadPoolExecutor(min(cores(), len(starts))) as pool:
            chunks = list(pool.map(hashed, starts))
    return hashlib.sha256(b"%d\n" % size + b"".join(chunks)).hexdigest()


class Digests:
    """Content digests of files, remembered in a file of the cache.

    Args:
        path: The file; where it is missing or damaged, files are read again. None if there is no
            cache.
        staging: Gives a folder of the same file system to write in; raises `OSError` or
            `CacheError` where there can be none.
    """

    def __init__(
        self, path: Path | None, staging: Callable[[], AbstractContextManager[Path]]
    ) -> None:
        self._path = path
        self._staging = staging
        self._found: dict[str, tuple[str, str]] = {}
        self._unsaved: set[str] = set()

    def of(self, descriptor: int) -> str:
        """The content digest of an open file.

        Raises:
            OSError: The file cannot be read.
        """
        status = os.fstat(descriptor)
        if status.st_size <= _SMALL_BYTES:
            return _small(descriptor, status)
        identity = _identity(status)
        known, _ = self._known(identity)
        if known:
            return known
        digest = content_digest(descriptor)
        if _identity(os.fstat(descriptor)) == identity:
            self._found[identity] = digest, ""
            if _tells(status):
                self._unsaved.add(identity)
                self.save()
        return digest

    def confirm(self, descriptor: int, expected: str) -> bool:
        """Whether an open file of the cache holds what was written to it.

        What was found since the system was started is believed until it is started again.

        Raises:
            OSError: The file cannot be read.
        """
        identity = _identity(os.fstat(descriptor))
        if self._known(identity) == (expected, _boot()):
            return True
        if content_digest(descriptor) != expected:
            return False
        self.note(descriptor, expected)
        return True

    def note(self, descriptor: int, digest: str) -> None:
        """Takes in what an open file of the cache was just found to hold, for the next `save`."""
        status = os.fstat(descriptor)
        if status.st_size > _SMALL_BYTES:
            self._found[_identity(status)] = digest, _boot()
            self._unsaved.add(_identity(status))

    def save(self) -> None:
        """Writes down what was found; where nothing can be written, it is found again."""
        if self._path is None or not self._unsaved:
            return
        with contextlib.suppress(OSError, CacheError), self._staging() as folder:
            # Another process may do the same in this moment; then one of them finds it again.
            known = self._read() | {identity: self._found[identity] for identity in self._unsaved}
            latest = dict(list(known.items())[-_MOST:])
            (folder / "digests").write_text(json.dumps(latest))
            (folder / "digests").replace(self._path)
        self._unsaved.clear()

    def forget(self) -> None:
        """Deletes what is written down.

        Raises:
            OSError: It cannot be deleted.
        """
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def _known(self, identity: str) -> tuple[str, str]:
        """A file's digest, and in which run of the system it was found; empty if it is unknown."""
        if identity not in self._found:
            self._found = self._read() | self._found
        return self._found.get(identity, ("", ""))

    def _read(self) -> dict[str, tuple[str, str]]:
        if self._path is None:
            return {}
        try:
            read: Any = json.loads(self._path.read_bytes())
            return {identity: (digest, boot) for identity, (digest, boot) in read.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            return {}


def _small(descriptor: int, status: os.stat_result) -> str:
    """The content digest of a small file."""
    identity = _identity(status)
    if known := _small_files.get(identity):
        return known
    digest = content_digest(descriptor)
    if _tells(status) and _identity(os.fstat(descriptor)) == identity:
        _small_files[identity] = digest
    return digest


def _identity(status: os.stat_result) -> str:
    """What stands for the content of a file."""
    where = f"{status.st_dev}:{status.st_ino}:{status.st_size}"
    return f"{where}:{status.st_mtime_ns}:{status.st_ctime_ns}"


def _tells(status: os.stat_result) -> bool:
    """Whether a later change of the file is sure to show in its time of change.

    It does not where a change may fall into the same tick of the system's clock, nor on file
    systems that keep whole seconds, among them those made as an image with all times alike.
    """
    age_ns = time.time_ns() - status.st_ctime_ns
    return age_ns > _SECOND_NS and status.st_ctime_ns % _SECOND_NS != 0


def _boot() -> str:
    """Another one after each start of the system; empty where it does not tell."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
