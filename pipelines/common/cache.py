"""One folder for whatever is worth keeping between runs, limited in size and safe to share.

Entries are directories that appear and disappear by a rename, so that other processes see them
whole or not at all::

    <root>/<kind>/<key>/...           what the writer wrote, and meta.json with the files' sizes
    <root>/staging/<random>/          an entry being written, with a lock its writer holds
    <root>/lock                       held for the moment in which entries come and go

Locks are advisory (`flock`); the system drops those of a process that dies, which is how its
unfinished entries are told from the ones still being written.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.common.disk import sync
from pipelines.common.errors import CacheError, OfflineError, UsageError

KINDS = ("graph", "weights", "tokenizer")

DEFAULT_LIMIT_BYTES = 32 << 30

_FOLDER_VARIABLE = "RUN_PIPELINE_CACHE"
_LIMIT_VARIABLE = "RUN_PIPELINE_CACHE_LIMIT"
_META = "meta.json"
_STAGING = "staging"
_KEY = re.compile(r"[0-9a-f]{16,128}")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", re.IGNORECASE)
_UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}


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


class Cache:
    """A folder of entries, of which the least recently used are dropped beyond a limit.

    Reading needs no right to write. An entry that another process has mapped may be dropped: the
    mapping stays valid (POSIX), only the name is gone.

    Attributes:
        root: The folder, with symbolic links resolved.
        limit_bytes: What all entries together may hold; the newest one stays whatever its size.
        filled_by: The command that fills it, where only what it holds may be used; else None.
    """

    def __init__(
        self, root: Path, limit_bytes: int = DEFAULT_LIMIT_BYTES, *, filled_by: str | None = None
    ) -> None:
        self.root = root.resolve()
        self.limit_bytes = limit_bytes
        self.filled_by = filled_by

    @classmethod
    def default(cls, *, filled_by: str | None = None) -> Cache:
        """The user's cache, as ``RUN_PIPELINE_CACHE`` and ``RUN_PIPELINE_CACHE_LIMIT`` say.

        Args:
            filled_by: See the attribute.

        Raises:
            CacheError: There is no home directory to put it in.
            UsageError: The limit is not a size.
        """
        folder = os.environ.get(_FOLDER_VARIABLE)
        limit = os.environ.get(_LIMIT_VARIABLE)
        return cls(
            Path(folder).expanduser() if folder else _user_cache_folder() / "pipeline-driver",
            _parse_size(limit) if limit else DEFAULT_LIMIT_BYTES,
            filled_by=filled_by,
        )

    def check_may_make(self, what: str) -> None:
        """Called before something is made that the cache does not hold.

        Raises:
            OfflineError: Only what it holds may be used.
        """
        if self.filled_by is not None:
            raise OfflineError(
                f"{what} is not in the cache {self.root}, and --offline makes nothing; store it"
                f" first: {self.filled_by}"
            )

    def get(self, kind: str, key: str) -> Path | None:
        """The directory of a complete entry, marked as used; None when there is none.

        A damaged entry (no record of its files, or files of other sizes) is dropped.
        """
        path = self._path(kind, key)
        if _read_entry(kind, path) is not None:
            with contextlib.suppress(OSError):  # a folder that is only read keeps its times
                os.utime(path / _META)
            return path
        if path.exists():
            with contextlib.suppress(OSError), self._locked():
                if _read_entry(kind, path) is None:
                    self._drop(path)
        return None

    def put(
        self, kind: str, key: str, write: Callable[[Path], None], description: str = ""
    ) -> Path:
        """Stores what `write` puts into the empty directory it is given.

        When another process stored the same key in the meantime, its entry is kept and returned.

        Args:
            kind: One of `KINDS`.
            key: A digest of all that the content depends on, see `digest`.
            write: Fills the directory; it is removed again if this raises.
            description: One line for people.

        Returns:
            The entry's directory.

        Raises:
            CacheError: The folder cannot be written, or the disk is full.
        """
        path = self._path(kind, key)
        try:
            with self._staging() as staging:
                entry = staging / "entry"
                entry.mkdir()
                write(entry)
                _seal(entry, description)
                with self._locked():
                    if _read_entry(kind, path) is None:
                        if path.exists():
                            self._drop(path)
                        path.parent.mkdir(exist_ok=True)
                        entry.rename(path)
                        sync(path.parent)
            self._trim(keep=path)
        except OSError as error:
            raise self._failure("write", error) from error
        return path

    def discard(self, kind: str, key: str) -> None:
        """Drops an entry that its user found to be out of date.

        Raises:
            CacheError: The folder cannot be written.
        """
        path = self._path(kind, key)
        try:
            with self._locked():
                if path.exists():
                    self._drop(path)
        except OSError as error:
            raise self._failure("write", error) from error

    def entries(self) -> list[CacheEntry]:
        """All complete entries, the most recently used first.

        Raises:
            CacheError: The folder cannot be read.
        """
        try:
            found = [entry for kind, path in self._folders() if (entry := _read_entry(kind, path))]
        except OSError as error:
            raise self._failure("read", error) from error
        return sorted(found, key=lambda entry: entry.last_used, reverse=True)

    def clear(self, kind: str | None = None) -> int:
        """Drops every entry, or those of one kind, and what dead writers left behind.

        Returns:
            The bytes that the entries held.

        Raises:
            CacheError: The folder cannot be written.
        """
        if kind is not None:
            _check_kind(kind)
        if not self.root.exists():
            return 0
        freed = 0
        try:
            with self._locked():
                for entry_kind, path in list(self._folders()):
                    if kind is None or entry_kind == kind:
                        freed += _size(path)
                        self._drop(path)
            self._sweep()
        except OSError as error:
            raise self._failure("clear", error) from error
        return freed

    def _path(self, kind: str, key: str) -> Path:
        _check_kind(kind)
        if not _KEY.fullmatch(key):
            raise ValueError(f"cache key {key!r} is not a hex digest")
        return self.root / kind / key

    def _folders(self) -> Iterator[tuple[str, Path]]:
        """Every directory that an entry could be, complete or not; nothing else is touched."""
        for kind in KINDS:
            with contextlib.suppress(FileNotFoundError):
                for path in (self.root / kind).iterdir():
                    if _KEY.fullmatch(path.name):
                        yield kind, path

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Keeps other processes from adding and dropping entries."""
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / "lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    @contextlib.contextmanager
    def _staging(self) -> Iterator[Path]:
        """A directory beside the entries, locked for as long as it is in use."""
        with contextlib.ExitStack() as stack:
            with self._locked():  # so that nobody sweeps it before it has its own lock
                (self.root / _STAGING).mkdir(exist_ok=True)
                staging = Path(tempfile.mkdtemp(dir=self.root / _STAGING))
                stack.callback(shutil.rmtree, staging, ignore_errors=True)
                lock = stack.enter_context((staging / "lock").open("ab"))
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield staging

    def _drop(self, path: Path) -> None:
        """Takes an entry out of sight at once, then deletes it; called with the lock held."""
        (self.root / _STAGING).mkdir(exist_ok=True)
        dropped = Path(tempfile.mkdtemp(dir=self.root / _STAGING))
        path.rename(dropped / "entry")
        shutil.rmtree(dropped, ignore_errors=True)

    def _trim(self, keep: Path) -> None:
        """Drops the least recently used entries beyond the limit, and what dead writers left."""
        self._sweep()
        with self._locked():
            entries = self.entries()
            excess = sum(entry.size_bytes for entry in entries) - self.limit_bytes
            for entry in reversed(entries):
                if excess <= 0:
                    break
                if entry.path != keep:
                    self._drop(entry.path)
                    excess -= entry.size_bytes

    def _sweep(self) -> None:
        """Deletes the staging directories that no living process holds the lock of."""
        with self._locked():
            (self.root / _STAGING).mkdir(exist_ok=True)
            for staging in (self.root / _STAGING).iterdir():
                try:
                    with (staging / "lock").open("rb+") as lock:
                        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                except FileNotFoundError:
                    pass
                shutil.rmtree(staging, ignore_errors=True)

    def _failure(self, action: str, error: OSError) -> CacheError:
        return CacheError(
            f"cannot {action} the cache folder {self.root}: {error.strerror or error}; "
            f"make room there, or name another folder with {_FOLDER_VARIABLE}=FOLDER"
        )


def digest(*parts: str | bytes | Mapping[str, Any]) -> str:
    """A cache key: the hex digest of `parts`, which are told apart by order, type and extent.

    Args:
        parts: Text, bytes, or mappings of JSON values (their order of keys does not count).
    """
    tagged = [{"bytes": part.hex()} if isinstance(part, bytes) else [part] for part in parts]
    canonical = json.dumps(tagged, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(canonical.encode(), digest_size=20).hexdigest()


def _parse_size(text: str) -> int:
    """Bytes that a size such as ``20G``, ``1.5T`` or ``500MiB`` stands for (powers of 1024)."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"{_LIMIT_VARIABLE} is {text!r}; expected a size such as 20G or 500M")
    return int(float(match[1]) * (1 << _UNITS[match[2].upper()]))


def _check_kind(kind: str) -> None:
    if kind not in KINDS:
        raise ValueError(f"unknown kind of cache entry {kind!r}, there are {', '.join(KINDS)}")


def _user_cache_folder() -> Path:
    stated = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        if sys.platform == "darwin":
            return Path.home() / "Library" / "Caches"
        return stated if stated.is_absolute() else Path.home() / ".cache"
    except RuntimeError as error:
        raise CacheError(
            f"there is no home directory to keep a cache in; name a folder with {_FOLDER_VARIABLE}"
        ) from error


def _read_entry(kind: str, path: Path) -> CacheEntry | None:
    """The entry at `path`; None when it is missing or damaged."""
    try:
        meta = json.loads((path / _META).read_bytes())
        sizes: dict[str, int] = meta["files"]
        if any((path / name).stat().st_size != size for name, size in sizes.items()):
            return None
        record = (path / _META).stat()
        return CacheEntry(
            kind=kind,
            key=path.name,
            path=path,
            size_bytes=sum(sizes.values()) + record.st_size,
            last_used=record.st_mtime,
            description=meta["description"],
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _seal(entry: Path, description: str) -> None:
    """Makes sure that the files are on the disk, then writes the record of them."""
    files = {}
    for path in sorted(entry.rglob("*")):
        if path.is_file():
            files[path.relative_to(entry).as_posix()] = path.stat().st_size
        sync(path)
    (entry / _META).write_text(json.dumps({"description": description, "files": files}))
    sync(entry / _META)
    sync(entry)


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
