"""Notes which files are read while modules are imported and graphs are made of them.

A rule may read a table that lies beside it, a network its dimensions: what they make depends on
these files as it does on their code. Python tells of each file that it opens (PEP 578); a file that
a library opens in machine code of its own is not noticed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

_CODE = (".py", ".pyc", ".so", ".pyd")
"""Endings of modules, which are found in `sys.modules`."""

_OF_THE_SYSTEM = ("/proc/", "/sys/", "/dev/")


class _Watch:
    """What is noted in this process.

    Attributes:
        on: Whether Python has been told to report what it opens, which cannot be taken back.
        making: How many graphs are being made.
        files: The files that were read, and for which modules' import; empty for none.
    """

    def __init__(self) -> None:
        self.on = False
        self.making = 0
        self.files: dict[str, set[str]] = {}

    def note(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Told of every event; whatever it raised would be the failure of who opens the file."""
        if event != "open":
            return
        path, mode, flags = arguments
        if not isinstance(path, (str, bytes, os.PathLike)):  # a descriptor
            return
        writes = flags & (os.O_WRONLY | os.O_RDWR) if mode is None else set(mode) & set("wax+")
        name = os.fsdecode(path)
        if writes or "\0" in name or name.endswith(_CODE) or name.startswith(_OF_THE_SYSTEM):
            return
        module = _imported(sys._getframe(1))
        if module is not None or self.making:
            with suppress(OSError):  # there is no working directory
                self.files.setdefault(str(Path(name).absolute()), set()).add(module or "")


_watch = _Watch()


def watch() -> None:
    """Begins to note, for as long as the process lives."""
    if not _watch.on:
        _watch.on = True
        sys.addaudithook(_watch.note)


@contextmanager
def making() -> Iterator[None]:
    """Within this, every file that is read is noted, and not only those that imports read."""
    watch()
    _watch.making += 1
    try:
        yield
    finally:
        _watch.making -= 1


def files() -> dict[str, frozenset[str]]:
    """What has been read, and the modules that were being imported; an empty name is for none."""
    return {path: frozenset(modules) for path, modules in _watch.files.items()}


def _imported(frame: FrameType | None) -> str | None:
    """The module whose import is going on, the innermost one; None if there is none."""
    while frame is not None:
        if frame.f_code.co_name == "<module>":
            # Whatever is executed may have a name; a module that is imported has a spec as well.
            name, spec = map(frame.f_globals.get, ("__name__", "__spec__"))
            return name if isinstance(name, str) and name != "__main__" and spec else None
        frame = frame.f_back
    return None
