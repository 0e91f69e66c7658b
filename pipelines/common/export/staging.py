"""Folders that appear as a whole or not at all, and what killed writers have left of theirs.

A folder is written beside its place, in a hidden one that its writer holds a lock in::

    .run-pipeline-export-<random>/lock      held for as long as the writer lives
    .run-pipeline-export-<random>/folder    what is written, and renamed in the end

The system drops the lock of a process that dies, by which the next export beside it tells what it
may delete.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pipelines.common.disk import sync

_PREFIX = ".run-pipeline-export-"
_LOCK, _FOLDER = "lock", "folder"


@contextlib.contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder to write into, which takes the place of `folder` when all has gone well.

    What killed writers have left beside it is deleted before.

    Args:
        folder: Must not exist, or be empty.

    Raises:
        OSError: It cannot be written, or has something in it by now.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    _sweep(folder.parent)
    with _locked(folder.parent) as staging:
        made = staging / _FOLDER
        made.mkdir()
        yield made
        for path in (*made.iterdir(), made):
            sync(path)
        made.rename(folder)
        sync(folder.parent)


@contextlib.contextmanager
def _locked(parent: Path) -> Iterator[Path]:
    """A new folder that others leave alone."""
    while True:
        staging = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
        try:
            lock = (staging / _LOCK).open("xb")
        except FileNotFoundError:  # swept before it had a lock
            continue
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not _is_at(lock.fileno(), staging / _LOCK):  # swept before the lock was held
                continue
            try:
                yield staging
            finally:
                shutil.rmtree(staging, ignore_errors=True)
            return


def _sweep(parent: Path) -> None:
    """Deletes what writers have left that are dead; what cannot be deleted is left."""
    for staging in parent.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            status = staging.lstat()
            if stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid():
                _delete_unless_locked(staging)


def _delete_unless_locked(staging: Path) -> None:
    with contextlib.ExitStack() as stack:
        # Writers make their lock before anything else, so what has none is nobody's.
        with contextlib.suppress(FileNotFoundError):
            lock = stack.enter_context((staging / _LOCK).open("rb+"))
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(staging)


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether an open file is the one at a path."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
