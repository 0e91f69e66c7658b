"""Opens what users name, whatever it turns out to be.

A path may lead to a folder, to a named pipe that nobody writes to, to a device without end, or in a
circle. What cannot be used as wanted is an `OSError` here whose `strerror` a caller puts into its
own message; nothing is waited for, and no more is read than was asked for.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from pathlib import Path
from typing import BinaryIO, Final

_URL: Final = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_KINDS: Final = (
    (stat.S_ISDIR, errno.EISDIR, os.strerror(errno.EISDIR)),
    (stat.S_ISFIFO, errno.EINVAL, "Is a named pipe"),
    (stat.S_ISSOCK, errno.EINVAL, "Is a socket"),
    (stat.S_ISCHR, errno.EINVAL, "Is a device"),
    (stat.S_ISBLK, errno.EINVAL, "Is a device"),
)


def folder_of_user(variable: str, usual: str) -> Path:
    """The folder where programs keep something of the user's.

    Args:
        variable: The environment's name for it, as ``XDG_CONFIG_HOME``.
        usual: Where it is in the home directory, if that says none.

    Raises:
        RuntimeError: There is no home directory.

    Source: https://specifications.freedesktop.org/basedir-spec/latest/
    """
    stated = Path(os.environ.get(variable, ""))
    return stated if stated.is_absolute() else Path.home() / usual


def typed_path(text: str) -> Path:
    """A path as a user typed it; a ``~`` that no shell has replaced is the home folder.

    Raises:
        ValueError: It is none; the message is what can be said of it.
    """
    if not text:
        raise ValueError("is empty; expected a path")
    if _URL.match(text):
        raise ValueError(f"is a URL, {text}; nothing is downloaded, expected a path")
    # As a shell does it: where there is no such user, the name stays as it is.
    return Path(os.path.expanduser(text))  # noqa: PTH111


def exists(path: Path) -> bool:
    """Whether something is there; of what cannot be looked at, whoever opens it says why."""
    return os.path.exists(path)  # noqa: PTH110


def is_folder(path: Path) -> bool:
    """Whether a folder is there, see `exists`."""
    return os.path.isdir(path)  # noqa: PTH112


def is_file(path: Path) -> bool:
    """Whether a regular file is there, see `exists`."""
    return os.path.isfile(path)  # noqa: PTH113


def resolved(path: Path) -> Path:
    """The path without links, as far as they lead anywhere."""
    return Path(os.path.realpath(path))


def check_regular(path: Path) -> None:
    """Makes sure that a regular file is there, by links or without.

    Raises:
        OSError: There is none.
    """
    _check_kind(_status(path))


def open_regular(path: Path) -> BinaryIO:
    """Opens a regular file for reading.

    Raises:
        OSError: There is none, or it cannot be read.
    """
    check_regular(path)
    # It may have been replaced since: a pipe would wait for its writer.
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    try:
        _check_kind(os.fstat(file.fileno()))
    except OSError:
        file.close()
        raise
    return file


def read_document(path: Path, most: int) -> bytes:
    """The content of a regular file.

    Args:
        path: The file.
        most: Bytes that it may have.

    Raises:
        OSError: There is none, it cannot be read, or it has more.
    """
    with open_regular(path) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, f"Is larger than {most >> 20} MiB")
    return content


def open_input(path: Path) -> BinaryIO:
    """Opens what gives a text, to its end: a file, a pipe or a terminal.

    Of a named pipe the writer is waited for.

    Raises:
        OSError: There is nothing of that kind, or it cannot be read.
    """
    mode = _status(path).st_mode
    terminal = stat.S_ISCHR(mode)
    if not (terminal or stat.S_ISFIFO(mode)):
        return open_regular(path)
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC), "rb")
    if terminal and not file.isatty():
        file.close()
        raise OSError(errno.EINVAL, "Is a device")
    return file


def write_output(path: Path, content: bytes) -> None:
    """Writes a file, or to whatever else takes bytes.

    Raises:
        OSError: It cannot be written; a named pipe has to have a reader already.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, 0o666)
    except ValueError as error:
        raise _no_name() from error
    except OSError as error:
        if error.errno == errno.ENXIO:  # as a socket is too
            raise OSError(error.errno, "Nobody reads what is written there") from error
        raise
    os.set_blocking(descriptor, True)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


def _status(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except ValueError as error:
        raise _no_name() from error


def _no_name() -> OSError:
    """For names with a NUL, or with what no encoding has, as JSON can hold them."""
    return OSError(errno.EINVAL, "Is no name that a file can have")


def _check_kind(status: os.stat_result) -> None:
    for is_kind, number, what in _KINDS:
        if is_kind(status.st_mode):
            raise OSError(number, what)
