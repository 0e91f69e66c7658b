"""Maps files, and ends the process in one line when one is cut short while it is read.

The system answers a read beyond the end of a mapped file with the signal SIGBUS, wherever it
happens: in NumPy, in ONNX Runtime, in a kernel. Why it is handled in this way is told in
docs/architecture.md, under "Files that change while they are read".
"""

from __future__ import annotations

import mmap
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, Final
from weakref import WeakKeyDictionary

from pipelines.common.errors import ModelFileError

_FILES: Final[WeakKeyDictionary[mmap.mmap, Path]] = WeakKeyDictionary()
_HANDLERS: Final[list[Any]] = []
"""What the system calls has to stay there."""


def map_file(path: Path, file: BinaryIO, nbytes: int) -> mmap.mmap:
    """Maps an open file, to be read.

    Args:
        path: Where it is, for messages.
        file: The file.
        nbytes: Its size, as it was when it was checked.

    Raises:
        OSError: It cannot be mapped.
        ModelFileError: It has become shorter.
    """
    try:
        mapped = mmap.mmap(file.fileno(), nbytes, access=mmap.ACCESS_READ)
    except ValueError as error:
        raise ModelFileError(cut_short(path)) from error
    _FILES[mapped] = path
    return mapped


def end_when_cut_short(say: Callable[[str], None]) -> None:
    """Ends this process in one line when it reads beyond the end of a mapped file.

    Whatever else SIGBUS stands for ends it as the system does.

    Args:
        say: Tells people.
    """
    # Python calls its own handlers between two of its steps, but the read is tried again before.
    import ctypes

    set_handler = ctypes.CDLL(None).signal
    set_handler.argtypes, set_handler.restype = [ctypes.c_int, ctypes.c_void_p], ctypes.c_void_p
    first = threading.Lock()

    def end(number: int) -> None:
        if not first.acquire(blocking=False):
            time.sleep(1)  # another thread has met it too, and is about to end the process
            return
        cut = [path for mapped, path in list(_FILES.items()) if mapped.size() < len(mapped)]
        if not cut:
            set_handler(number, int(signal.SIG_DFL))
            first.release()
            return
        try:
            say(f"error: {cut_short(cut[0])}")
        finally:
            os._exit(1)

    _HANDLERS.append(ctypes.CFUNCTYPE(None, ctypes.c_int)(end))
    set_handler(signal.SIGBUS, ctypes.cast(_HANDLERS[-1], ctypes.c_void_p))


def cut_short(path: Path) -> str:
    """What is told of a file that has become shorter."""
    return f"{path} was cut short while it was read; bring it back as it was, and run again"
