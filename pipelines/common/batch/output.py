"""Where the records of a batch go, one JSON line a row; a file can be gone on with after any end.

A file and its manifest come about in this order, each step with the file's lock held::

    answers.jsonl                   made, empty
    answers.jsonl.manifest.json     appears whole, is on the disk before the first record
    answers.jsonl                   grows by whole records

so that whatever a run that was killed leaves is a beginning of that: an empty file, or a manifest
and whole records, of which the last may be torn. The lock is advisory (`flock`), and the system
drops that of a process that dies.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
import time
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from pipelines.common.batch.form import Form
from pipelines.common.batch.manifest import (
    Settings,
    check_settings,
    manifest_path,
    read_manifest,
    write_manifest,
)
from pipelines.common.errors import BatchError, OutputError, ReaderGoneError
from pipelines.common.escapes import json_line

_SYNC_SECONDS = 5.0
_PIECE_BYTES = 1 << 26


class Output(Protocol):
    """What a run writes its records to.

    Attributes:
        done: Lines of the input that it had records of from the start.
        failed: How many of those rows could not be run.
    """

    done: Set[int]
    failed: int

    def write(self, record: Mapping[str, Any]) -> None:
        """Writes one record.

        Raises:
            BatchError: It cannot be written; what was written before is kept.
        """

    def close(self) -> None:
        """Makes sure that all records are where they belong.

        Raises:
            BatchError: They cannot be written.
        """


@dataclass
class _Content:
    """What an output holds.

    Attributes:
        done: See `OutputFile`.
        failed: See `OutputFile`.
        size_bytes: Up to the end of the last whole record.
    """

    done: set[int] = field(default_factory=set)
    failed: int = 0
    size_bytes: int = 0


class OutputFile:
    """A file of records that this process alone writes to, until it is closed.

    Attributes:
        done: Lines of the input that it had records of when it was opened.
        failed: How many of those rows could not be run.
    """

    def __init__(
        self, path: Path, descriptor: int, content: _Content, *, new: bool = False
    ) -> None:
        self.done: Set[int] = content.done
        self.failed = content.failed
        self._path = path
        self._descriptor = descriptor
        self._size = content.size_bytes
        self._new = new
        self._synced_at = time.monotonic()

    @classmethod
    def create(cls, output: Path, settings: Settings) -> OutputFile:
        """Begins a new output.

        Args:
            output: A file that is not there, as its manifest.
            settings: What the rows are run with.

        Raises:
            BatchError: There is an output or a manifest already, or they cannot be made.
        """
        _check_kind(output)
        for existing in (output, manifest_path(output)):
            if os.path.lexists(existing):
                raise _exists(existing)
        return cls._begin(output, settings, os.O_EXCL)

    @classmethod
    def resume(
        cls, output: Path, settings: Settings, form: Form[Any, Any, Any], lines: Iterable[int]
    ) -> OutputFile:
        """Goes on with an output, or begins it if it is not there.

        A last line that is torn is cut off, as is all that follows zeros: those are what a power
        failure leaves in the place of what had not reached the disk.

        Args:
            output: The output.
            settings: What the rows are run with; the same as before.
            form: What the records are of.
            lines: Those of the input that have rows.

        Raises:
            BatchError: The output was begun with other settings, its manifest is missing, a line
                is no record, the second of a row or one of no row, another run is writing to it, or
                it cannot be read or written. What it holds is left as it is.
        """
        _check_kind(output)
        before = read_manifest(output)
        if before is None:
            return cls._begin(output, settings)
        check_settings(output, before, settings)
        with _locked(output) as descriptor:
            content = _read(output, descriptor, form)
            if strangers := content.done.difference(lines):
                raise BatchError(
                    f"{output} has a record of line {min(strangers)} of the input, which has no row"
                    " there; remove that record, or choose another `output`"
                )
            os.ftruncate(descriptor, content.size_bytes)
            return cls(output, descriptor, content)

    @classmethod
    def _begin(cls, path: Path, settings: Settings, flags: int = 0) -> OutputFile:
        with _locked(path, flags) as descriptor:
            if os.fstat(descriptor).st_size:
                raise BatchError(
                    f"{path} has no {manifest_path(path).name} beside it, so what it was made with "
                    "is not known; restore that, or choose another `output`"
                )
            write_manifest(path, settings)
            return cls(path, descriptor, _Content(), new=True)

    def write(self, record: Mapping[str, Any]) -> None:
        """Appends one record, of which nothing stays if that fails.

        Raises:
            BatchError: The disk is full or broken.
        """
        line = _encode(record)
        end = self._size + len(line)
        try:
            rest = memoryview(line)
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
            self._size = end
        except OSError as error:
            raise self._failure(error) from error
        finally:
            if self._size != end:  # a full disk, or an interrupt
                with contextlib.suppress(OSError):  # then the torn line is cut off by `resume`
                    os.ftruncate(self._descriptor, self._size)
        # A run that is killed loses nothing without this: it bounds what a power failure costs.
        if time.monotonic() - self._synced_at >= _SYNC_SECONDS:
            self._sync()

    def close(self) -> None:
        """Writes everything to the disk and lets go of the file.

        A run that ends before its first record, as one for which there is too little memory, leaves
        nothing behind that would be in the way of the next.

        Raises:
            BatchError: The disk is full or broken.
        """
        try:
            if self._new and not self._size:
                manifest_path(self._path).unlink(missing_ok=True)
                self._path.unlink(missing_ok=True)
            else:
                self._sync()
        finally:
            os.close(self._descriptor)

    def _sync(self) -> None:
        try:
            os.fsync(self._descriptor)
            kept = os.path.samestat(os.fstat(self._descriptor), self._path.stat())
        except FileNotFoundError:
            kept = False
        except OSError as error:
            raise self._failure(error) from error
        if not kept:
            raise BatchError(
                f"{self._path} was removed or replaced while it was being written; its records are"
                " lost, run the command again"
            )
        self._synced_at = time.monotonic()

    def _failure(self, error: OSError) -> BatchError:
        return BatchError(
            f"cannot write to {self._path}: {error.strerror}; what is complete is kept: make room "
            "and go on with `resume`"
        )


class OutputStream:
    """Records for another program to read, each as soon as there is one.

    Args:
        stream: The program's stdout, which raises `OutputError`.
    """

    done: Set[int] = frozenset()
    failed = 0

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def write(self, record: Mapping[str, Any]) -> None:
        """Writes one record.

        Raises:
            ReaderGoneError: The reader is gone.
            BatchError: It cannot be written otherwise.
        """
        try:
            self._stream.write(_encode(record))
            self._stream.flush()
        except ReaderGoneError:
            raise
        except OutputError as error:
            raise BatchError(
                f"{error}; make room, or name a file with `output`, which can be resumed"
            ) from error

    def close(self) -> None:
        """Leaves the stream open: nothing is held back, and it is not this object's."""


def _encode(record: Mapping[str, Any]) -> bytes:
    return f"{json_line(record)}\n".encode()


def _check_kind(path: Path) -> None:
    try:
        special = not stat.S_ISREG(path.stat().st_mode)
    except FileNotFoundError:
        return
    except OSError as error:
        raise _not_writable(path, error) from error
    if special:
        raise BatchError(
            f"{path} is no regular file, which `output` has to be; write to a pipe with"
            " `OutputStream`"
        )


@contextlib.contextmanager
def _locked(path: Path, flags: int = 0) -> Iterator[int]:
    """Opens an output, making it if need be, and locks it; closes it again if the block fails."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | flags, 0o666)
    except FileExistsError as error:
        raise _exists(path) from error
    except OSError as error:
        raise _not_writable(path, error) from error
    with contextlib.ExitStack() as on_failure:
        on_failure.callback(os.close, descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # A run that ends without a record removes its file, maybe after it was opened here.
            if not os.path.samestat(os.fstat(descriptor), path.stat()):
                raise BlockingIOError
            yield descriptor
        except BlockingIOError as error:
            raise BatchError(
                f"another run is writing to {path}; wait for its end, or choose another `output`"
            ) from error
        except OSError as error:
            raise _not_writable(path, error) from error
        on_failure.pop_all()


def _read(path: Path, descriptor: int, form: Form[Any, Any, Any]) -> _Content:
    """What the whole records of an output tell."""
    content = _Content()
    bad: int | None = None
    with open(descriptor, "rb", closefd=False) as file:
        for number, line in enumerate(_lines(file), 1):
            if bad is not None:
                raise _damaged(path, bad, "not a record of this batch")
            told = _recorded(line, form)
            if told is None:
                bad = number  # which is well if it is the last
                continue
            row, succeeded = told
            if row in content.done:
                raise _damaged(path, number, f"a second record of line {row} of the input")
            content.done.add(row)
            content.failed += not succeeded
            content.size_bytes += len(line)
    return content


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """The lines with their ends, up to one that holds zeros, of which only the beginning counts.

    Zeros are in no record, but there can be more of them than fit into memory.
    """
    line = b""
    while piece := file.readline(_PIECE_BYTES):
        line += piece
        if b"\0" in piece:
            break
        if piece.endswith(b"\n"):
            yield line
            line = b""
    if line:
        yield line


def _recorded(line: bytes, form: Form[Any, Any, Any]) -> tuple[int, bool] | None:
    """What a line tells, see `Form.recorded`; None if it is torn or damaged."""
    if not line.endswith(b"\n"):
        return None
    try:
        return form.recorded(json.loads(line.decode()))
    except (ValueError, RecursionError):
        return None


def _damaged(path: Path, number: int, what: str) -> BatchError:
    return BatchError(
        f"{path}, line {number}: {what}; repair or remove that line, or choose another `output`"
    )


def _exists(path: Path) -> BatchError:
    return BatchError(f"{path} exists; finish it with `resume`, or choose another `output`")


def _not_writable(path: Path, error: OSError) -> BatchError:
    return BatchError(
        f"cannot write {path}: {error.strerror}; choose an `output` in a folder that exists and "
        "can be written"
    )
