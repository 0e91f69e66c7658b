"""What has to be on the disk before something else may be."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def sync(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on the disk.

    Raises:
        OSError: They cannot be written.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """An empty file beside `path`, which takes that name when all has gone well, and else is gone.

    Raises:
        OSError: It cannot be made, or not brought onto the disk.
    """
    staged = path.with_name(f".run-pipeline-{secrets.token_hex(8)}.part")
    try:
        staged.open("xb").close()
        yield staged
        sync(staged)
        staged.rename(path)
    except BaseException:
        staged.unlink(missing_ok=True)
        raise
    sync(path.parent)
