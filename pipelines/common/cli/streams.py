"""The standard streams: all that the program writes to them goes through here.

stdout carries what was asked for, and nothing else. So the program keeps its stdout as a descriptor
of its own, and what plugins, libraries and child processes take for theirs, ``sys.stdout`` as well
as descriptor 1, is stderr. What cannot be written to stderr is lost: that something cannot be told
is no reason to lose what was asked for.
"""

from __future__ import annotations

import fcntl
import io
import json
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO, cast

from pipelines.common.cli.formatting import folded
from pipelines.common.errors import OutputError, ReaderGoneError
from pipelines.common.escapes import json_line, plain, printable, printable_lines

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_USUAL_WIDTH = 80
"""Of terminals that do not know theirs."""

_LONGEST_LINE = 1000
"""Characters of a line for people; names that come from files can be of any length."""
_NAMES = frozenset(("-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"))

_stdout: TextIO | None = None
_stderr: TextIO | None = None


def claim(*, own: bool) -> None:
    """Takes the streams over, before anything else opens files or prints.

    Descriptors of closed streams are opened, or the next file would be taken for one of them.

    Args:
        own: Whether they are the process's own; others are used as they are.
    """
    global _stdout, _stderr  # noqa: PLW0603 - a process has one of each
    if not own:
        _stdout, _stderr = sys.stdout, sys.stderr
        return
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    kept: io.RawIOBase = _Closed()
    if sys.stdout is not None:
        kept = _Stdout(fcntl.fcntl(1, fcntl.F_DUPFD_CLOEXEC, 3))
    os.dup2(2, 1)
    encoding = "utf-8" if sys.stderr is None else sys.stderr.encoding
    sys.stdout = sys.stderr = _stderr = _text(_Stderr(2), encoding)
    _stdout = _text(kept, "utf-8")


def stdout_is_closed() -> bool:
    """Whether there is nowhere to write what was asked for."""
    # A program that captures it may have given one for text alone.
    return isinstance(getattr(_out(), "buffer", None), _Closed)


def on_terminal() -> bool:
    """Whether stdout is a terminal."""
    return _out().isatty()


def is_stdout(path: Path) -> bool:
    """Whether a path that the user gave means stdout, which is not descriptor 1 any more."""
    return str(path) in _NAMES


def print_lines(*lines: str) -> None:
    """Writes lines for people; each stays one of bounded length, whatever it holds.

    On a terminal those that are longer than its own are folded.

    Args:
        lines: Without newlines at their ends.

    Raises:
        OutputError: They cannot be written.
    """
    shown = [printable(line, _LONGEST_LINE) for line in lines]
    if on_terminal():
        width = terminal_width()
        shown = [part for line in shown for part in folded(line, width)]
    _write("".join(f"{line}\n" for line in shown))


def print_json(record: Any, *, indented: bool = True) -> None:
    """Writes a record for programs: ASCII in many lines, or readable in one.

    Args:
        record: JSON values.
        indented: Whether it takes many lines.

    Raises:
        OutputError: It cannot be written.
    """
    _write(f"{json.dumps(record, indent=2) if indented else json_line(record)}\n")


def write_text(text: str) -> None:
    """Writes generated text as it is; a terminal gets no control characters but newlines and tabs.

    Raises:
        OutputError: It cannot be written.
    """
    _write(plain(text) if on_terminal() else text)


def terminal() -> TextIO | None:
    """stdout, where it is a terminal, for libraries that draw on it."""
    return _out() if on_terminal() else None


def terminal_width() -> int:
    """Columns of stdout, which is a terminal."""
    return os.get_terminal_size(_out().fileno()).columns or _USUAL_WIDTH


def binary_stdout() -> BinaryIO:
    """For bytes that were asked for; writing them raises `OutputError`."""
    _out().flush()
    return _out().buffer


@contextmanager
def lent_for_help() -> Iterator[None]:
    """Lends the streams to the library that shows help and wrong usage and completes words."""
    with redirect_stdout(_Escaped(_out())), redirect_stderr(_Escaped(_stderr or sys.stderr)):
        yield


@contextmanager
def taken_back() -> Iterator[None]:
    """Takes them back where plugins and libraries run: what these print goes to stderr."""
    stderr = _stderr or sys.stderr
    with redirect_stdout(stderr), redirect_stderr(stderr):
        yield


def _out() -> TextIO:
    return _stdout or sys.stdout


def _write(text: str) -> None:
    _out().write(text)
    _out().flush()


def _text(raw: io.RawIOBase, encoding: str) -> TextIO:
    return io.TextIOWrapper(cast(BinaryIO, raw), encoding, "backslashreplace", line_buffering=True)


class _Descriptor(io.RawIOBase):
    """Writes all of what it is given, also where the descriptor does not block."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self._number = number

    def fileno(self) -> int:
        return self._number

    def isatty(self) -> bool:
        return os.isatty(self._number)

    def writable(self) -> bool:
        return True

    def write(self, data: ReadableBuffer) -> int:
        rest = memoryview(data).cast("B")
        size = len(rest)
        while rest:
            try:
                rest = rest[os.write(self._number, rest) :]
            except BlockingIOError:
                room = select.poll()
                room.register(self._number, select.POLLOUT)
                room.poll()
        return size


class _Stderr(_Descriptor):
    """Loses what cannot be written."""

    def write(self, data: ReadableBuffer) -> int:
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


class _Stdout(_Descriptor):
    """Says in one line why something cannot be written."""

    def write(self, data: ReadableBuffer) -> int:
        try:
            return super().write(data)
        except BrokenPipeError as error:
            raise ReaderGoneError("nobody reads standard output any more") from error
        except OSError as error:
            raise OutputError(f"cannot write to standard output: {error.strerror}") from error


class _Closed(io.RawIOBase):
    """What is left of a stdout that was closed when the program started."""

    def writable(self) -> bool:
        return True

    def write(self, data: ReadableBuffer) -> int:  # noqa: ARG002 - as of any stream
        raise OutputError("cannot write to standard output, which is closed; leave it open")


class _Escaped(io.TextIOBase):
    """Text with escapes for what a terminal would not show as it is."""

    encoding = "utf-8"
    errors = "backslashreplace"

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        return self._stream.write(printable_lines(text))

    def flush(self) -> None:
        self._stream.flush()
