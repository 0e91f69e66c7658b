"""One folder for whatever is worth keeping between runs, limited in size and safe to share.

Entries are directories that appear and disappear by a rename, so that other processes see them
whole or not at all::

    <root>/<kind>/<key>/...           what the writer wrote, and meta.json with sizes and digests
    <root>/staging/<random>/          an entry being written, with a lock its writer holds
    <root>/lock                       held for the moment in which entries come and go
    <root>/digests.json               what large files were found to hold, see `digests`

Locks are advisory (`flock`); the system drops those of a process that dies, which is how its
unfinished entries are told from the ones still being written.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pipelines.common.cache import location
from pipelines.common.cache.digests import Digests
from pipelines.common.cache.entries import RECORD, CacheEntry, is_sound, read_entry, seal
from pipelines.common.disk import sync
from pipelines.common.errors import CacheError, OfflineError

__all__ = ["KINDS", "Cache", "CacheEntry", "digest"]

KINDS = ("graph", "weights", "tokenizer")

_LOOKED_AT = 1 << 20
"""Bytes of a file up to which it is read for a look at the cache."""

_STAGING = "staging"
_DIGESTS = "digests.json"
_KEY = re.compile(r"[0-9a-f]{16,128}")


class Cache:
    """A folder of entries, of which the least recently used are dropped beyond a limit.

    Reading needs no right to write. An entry that another process has mapped may be dropped: the
    mapping stays valid (POSIX), only the name is gone.

    Args:
        root: The folder.
        limit_bytes: See the attribute.
        offline: See the attribute.
        notice: Told, in one line, what was found to be damaged.
        unusable: Why there is none, if so: it holds nothing, and says this to writers.

    Attributes:
        root: The folder, with symbolic links resolved.
        limit_bytes: What all entries together may hold; the newest one stays whatever its size.
        offline: Whether only what it holds may be used.
        digests: Digests of the content of files, kept in the folder.
    """

    def __init__(
        self,
        root: Path,
        limit_bytes: int = location.DEFAULT_LIMIT_BYTES,
        *,
        offline: bool = False,
        notice: Callable[[str], None] | None = None,
        unusable: CacheError | None = None,
    ) -> None:
        # A loop of links, or a working directory that is gone: told when the folder is used.
        with contextlib.suppress(OSError, RuntimeError):
            root = root if unusable else root.resolve()
        self.root = root
        self.limit_bytes = limit_bytes
        self.offline = offline
        self.digests = Digests(None if unusable else root / _DIGESTS, self._staging)
        self._notice = notice or (lambda _: None)
        self._unusable = unusable

    @classmethod
    def default(
        cls, *, offline: bool = False, notice: Callable[[str], None] | None = None
    ) -> Cache:
        """The user's cache, as ``RUN_PIPELINE_CACHE`` and ``RUN_PIPELINE_CACHE_LIMIT`` say.

        Args:
            offline: See the attribute.
            notice: See the class.

        Raises:
            UsageError: The limit is not a size.
        """
        limit = location.limit()
        try:
            return cls(location.folder(), limit, offline=offline, notice=notice)
        except CacheError as error:
            return cls(Path("~"), limit, offline=offline, notice=notice, unusable=error)

    def check_may_make(self, what: str) -> None:
        """Called before something is made that the cache does not hold.

        Raises:
            OfflineError: Only what it holds may be used.
        """
        if self.offline:
            raise OfflineError(
                f"{what} is not in the cache {self.root}{self._unreadable()}, and `offline=True`"
                " makes nothing"
            )

    def get(self, kind: str, key: str) -> Path | None:
        """The directory of a complete entry, marked as used; None when there is none.

        A damaged entry is dropped: one whose files are not those that were written. Large files
        are read once after each start of the system, and after whatever happens to them; the
        others every time.
        """
        path = self._path(kind, key)
        if self._unusable or not os.path.lexists(path):
            return None
        sound = is_sound(path, self.digests)
        self.digests.save()
        if sound:
            with contextlib.suppress(OSError):  # a folder that is only read keeps its times
                os.utime(path / RECORD)
            return path
        with contextlib.suppress(OSError), self._locked():
            if os.path.lexists(path):
                self._notice(f"{path} in the cache is damaged, and is made again")
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
                seal(entry, description, self.digests)
                with self._locked():
                    if not is_sound(path, self.digests):
                        if os.path.lexists(path):
                            self._drop(path)
                        path.parent.mkdir(exist_ok=True)
                        entry.rename(path)
                        sync(path.parent)
            self.digests.save()
        except OSError as error:
            raise self._failure("write", error) from error
        try:
            self._trim(keep=path)
        except OSError as error:  # the entry is there all the same
            self._notice(str(self._failure("clear", error)))
        return path

    def discard(self, kind: str, key: str) -> None:
        """Drops an entry that its user found to be out of date.

        Raises:
            CacheError: The folder cannot be written.
        """
        path = self._path(kind, key)
        try:
            with self._locked():
                if os.path.lexists(path):
                    self._drop(path)
        except OSError as error:
            raise self._failure("write", error) from error

    def entries(self) -> list[CacheEntry]:
        """All complete entries, the most recently used first; their files are not read.

        Raises:
            CacheError: The folder cannot be read.
        """
        self._check_usable()
        try:
            return self._entries()
        except OSError as error:
            raise self._failure("read", error) from error

    def damaged(self) -> list[Path]:
        """The directories of entries that would be dropped if they were asked for.

        Large files are only looked at, not read.

        Raises:
            CacheError: The folder cannot be read.
        """
        self._check_usable()
        try:
            folders = sorted(path for _, path in self._folders())
        except OSError as error:
            raise self._failure("read", error) from error
        return [path for path in folders if not is_sound(path, self.digests, _LOOKED_AT)]

    def clear(self, kind: str | None = None) -> int:
        """Drops every entry, or those of one kind, and what dead writers left behind.

        Returns:
            The bytes that the entries held.

        Raises:
            CacheError: The folder cannot be written.
        """
        if kind is not None:
            _check_kind(kind)
        self._check_usable()
        freed = 0
        try:
            if not self._exists():
                return 0
            with self._locked():
                for entry_kind, path in list(self._folders()):
                    if kind is None or entry_kind == kind:
                        freed += _size(path)
                        self._drop(path)
                if kind is None:
                    self.digests.forget()
            self._sweep()
        except OSError as error:
            raise self._failure("clear", error) from error
        return freed

    def _path(self, kind: str, key: str) -> Path:
        _check_kind(kind)
        if not _KEY.fullmatch(key):
            raise ValueError(f"cache key {key!r} is not a hex digest")
        return self.root / kind / key

    def _entries(self) -> list[CacheEntry]:
        found = [entry for kind, path in self._folders() if (entry := read_entry(kind, path))]
        return sorted(found, key=lambda entry: entry.last_used, reverse=True)

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
        self._check_usable()
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
            entries = self._entries()
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
                except (BlockingIOError, PermissionError):  # or another user's
                    continue
                except (FileNotFoundError, NotADirectoryError):
                    pass
                shutil.rmtree(staging, ignore_errors=True)

    def _check_usable(self) -> None:
        if self._unusable:
            raise self._unusable

    def _unreadable(self) -> str:
        """What is to be said of it where nothing can be found in it; empty if it can be read."""
        if self._unusable:
            return f" ({self._unusable})"
        try:
            self._exists()
        except OSError as error:
            return f" ({error.strerror})"
        return ""

    def _exists(self) -> bool:
        """Whether something has been stored in it.

        Raises:
            OSError: It cannot be read.
        """
        try:
            return next(self.root.iterdir(), None) is not None
        except FileNotFoundError:
            return False

    def _failure(self, action: str, error: OSError) -> CacheError:
        reason = error.strerror or str(error)
        if isinstance(error, FileExistsError):  # as `mkdir` says of files and of loops of links
            reason = "it is not a folder"
        advice = f"name another folder with {location.FOLDER_VARIABLE}=FOLDER"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            advice = f"make room there, or {advice}"
        return CacheError(f"cannot {action} the cache folder {self.root}: {reason}; {advice}")


def digest(*parts: str | bytes | Mapping[str, Any]) -> str:
    """A cache key: the hex digest of `parts`, which are told apart by order, type and extent.

    Args:
        parts: Text, bytes, or mappings of JSON values (their order of keys does not count).
    """
    tagged = [{"bytes": part.hex()} if isinstance(part, bytes) else [part] for part in parts]
    canonical = json.dumps(tagged, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(canonical.encode(), digest_size=20).hexdigest()


def _check_kind(kind: str) -> None:
    if kind not in KINDS:
        raise ValueError(f"unknown kind of cache entry {kind!r}, there are {', '.join(KINDS)}")


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
