"""Where the rows of a batch come from: a file, a pipe, or the command line.

An input is lines, which a newline ends. They are read as they are needed, so that memory does not
grow with the input; all that is kept of it while it is opened is the ids of its rows.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final, Generic

from pipelines.common.batch.form import D, Form, Forms
from pipelines.common.batch.forms.openai import ENVELOPE
from pipelines.common.batch.row import BadRow, R, Row
from pipelines.common.errors import BatchError
from pipelines.common.files import open_input
from pipelines.common.requests.fields import load_object
from pipelines.common.requests.values import RequestError, shown
from pipelines.common.utf8 import MARK, check_mark

_CHUNK_BYTES: Final = 1 << 18
_MAX_LINE_BYTES: Final = 16 << 20
_MAX_SHOWN: Final = 5
_ARRAY: Final = re.compile(r"\s*\[\s*(\{|$)")
"""How an array of objects begins; a prompt may begin with a bracket too."""
_JSON_SUFFIXES: Final = (".jsonl", ".ndjson", ".json")


class Prompts(Generic[D, R]):
    """Rows that can be read any number of times; `from_file` and its like make them.

    Attributes:
        form: How rows are read and records are written.
        source: What messages call the input.
        defaults: What holds for what rows do not say; it may be changed before they are read again.
        rows: Number of rows, bad ones included.
        fingerprint: Digest of the input's bytes.
        unknown: Names of fields that nobody knows here, sorted, five at most.
    """

    def __init__(
        self, file: BinaryIO, source: str, form: Form[D, R, Any], defaults: D, field: str = "prompt"
    ) -> None:
        """Reads all rows once.

        Args:
            file: A regular file, which is closed with this object.
            source: What messages call it.
            form: How rows are read and records are written.
            defaults: What holds for what rows do not say.
            field: What messages call what a row has.

        Raises:
            BatchError: There are no rows, two have one id, or the file cannot be read.
        """
        self.form = form
        self.source = source
        self.rows = 0
        self._file = file
        self.defaults = defaults
        self._size, self._mtime_ns = _state(file)

        ids: dict[str | int, int] = {}
        repeated: dict[str | int, list[int]] = {}
        unknown: set[str] = set()
        digest = hashlib.blake2b(digest_size=16)
        for row in self._parse(_hashed(self._chunks(), digest)):
            self.rows += 1
            if row.id is not None and (first := ids.setdefault(row.id, row.line)) != row.line:
                repeated.setdefault(row.id, [first]).append(row.line)
            if len(unknown) < _MAX_SHOWN:
                unknown.update(row.unknown)
        if not self.rows:
            raise BatchError(f"{source} holds no {field}s; expected one a line")
        if repeated:
            raise BatchError(
                f"{source}: ids are not unique: {_listed(repeated)}; give each row an id of its own"
            )
        self.fingerprint = digest.hexdigest()
        self.unknown = tuple(sorted(unknown)[:_MAX_SHOWN])

    def __iter__(self) -> Iterator[Row[R] | BadRow]:
        """Reads the rows again, each when it is asked for.

        Raises:
            BatchError: The input was changed since it was opened, or cannot be read.
        """
        return self._parse(self._chunks())

    def lines(self) -> Iterator[int]:
        """Reads the numbers of the lines that have rows.

        Raises:
            BatchError: See `__iter__`.
        """
        return (number for number, _ in _decoded(_split(self._chunks())))

    def __enter__(self) -> Prompts[D, R]:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()

    def _parse(self, chunks: Iterable[bytes]) -> Iterator[Row[R] | BadRow]:
        for index, (number, line) in enumerate(_decoded(_split(chunks))):
            if isinstance(line, BadRow):
                yield line
            else:
                yield self.form.parse(line, number, index, self.defaults)

    def _chunks(self) -> Iterator[bytes]:
        """The file's bytes; nothing that was changed since it was opened is passed on."""
        offset = 0
        while offset < self._size:
            chunk = _read(self._file, offset, self.source)
            if not chunk or _state(self._file) != (self._size, self._mtime_ns):
                raise BatchError(
                    f"{self.source} was changed while it was being read; restore it and run again"
                )
            offset += len(chunk)
            yield chunk


def from_file(path: Path, defaults: D, forms: Forms[D, R, Any]) -> Prompts[D, R]:
    """Opens a file, or whatever a path such as ``/dev/stdin`` or a named pipe gives.

    Args:
        path: ``.txt`` has a prompt a line, ``.jsonl``, ``.ndjson`` and ``.json`` an object a line;
            of others the first line tells.
        defaults: What holds for what rows do not say.
        forms: Those that there can be.

    Raises:
        BatchError: There are no rows, two have one id, or the file cannot be read.
    """
    try:
        file = open_input(path)
    except OSError as error:
        raise BatchError(
            f"cannot read {forms.field}s from {path}: {error.strerror}; expected a file or a pipe"
            " with one a line"
        ) from error
    if not file.seekable():
        with file:
            file = _spooled(file, str(path))
    return _opened(file, str(path), path.suffix.lower(), defaults, forms)


def from_stdin(defaults: D, forms: Forms[D, R, Any]) -> Prompts[D, R]:
    """Reads stdin to its end; its first line tells which of the forms it has.

    Raises:
        BatchError: There are no rows, two have one id, or stdin cannot be read.
    """
    if sys.stdin is None:
        raise BatchError(f"the {forms.field}s are to come from stdin, which is closed")
    return _opened(_spooled(sys.stdin.buffer, "stdin"), "stdin", "", defaults, forms)


def from_texts(texts: Sequence[str], defaults: D, forms: Forms[D, R, Any]) -> Prompts[D, R]:
    """Makes rows of texts of the command line; the first one counts as line 1."""
    lines = "".join(f"{json.dumps({forms.field: text})}\n" for text in texts)
    source = f"`{forms.field}s`"
    spool = _spooled(io.BytesIO(lines.encode()), source)
    return _opened(spool, source, ".jsonl", defaults, forms)


def _opened(
    file: BinaryIO, source: str, suffix: str, defaults: D, forms: Forms[D, R, Any]
) -> Prompts[D, R]:
    with _closed_on_failure(file):
        form = _detected_form(file, source, suffix, forms)
        return Prompts(file, source, form, defaults, forms.field)


def _spooled(stream: BinaryIO, source: str) -> BinaryIO:
    """A copy of what can be read only once, in a file that has no name."""
    try:
        with _closed_on_failure(tempfile.TemporaryFile()) as spool:
            shutil.copyfileobj(stream, spool)
            spool.flush()
            return spool
    except OSError as error:
        raise BatchError(
            f"cannot copy {source} to a temporary file: {error.strerror}; "
            f"name a folder that has room with TMPDIR=FOLDER"
        ) from error


@contextlib.contextmanager
def _closed_on_failure(file: BinaryIO) -> Iterator[BinaryIO]:
    try:
        yield file
    except BaseException:
        file.close()
        raise


def _detected_form(
    file: BinaryIO, source: str, suffix: str, forms: Forms[D, R, Any]
) -> Form[D, R, Any]:
    """The one form of all rows, told by the file's suffix and the first row that is sound."""
    try:
        check_mark(_read(file, 0, source))
    except ValueError as error:
        raise BatchError(f"{source} {error}") from error
    if suffix == ".txt":
        return forms.lines
    chunks = (_read(file, offset, source) for offset in itertools.count(0, _CHUNK_BYTES))
    lines = _decoded(_split(itertools.takewhile(bool, chunks)))
    texts = (line for _, line in lines if isinstance(line, str))
    first = next(texts, "")
    if _ARRAY.match(first):
        raise BatchError(
            f"{source} holds a JSON array; expected an object a line: jq -c '.[]' makes them of it"
        )
    if suffix not in _JSON_SUFFIXES and not first.lstrip().startswith("{"):
        return forms.lines
    for text in itertools.chain([first], texts):
        with contextlib.suppress(RequestError):
            fields = load_object(text, "the line")
            is_request = forms.field not in fields and fields.keys() & {*ENVELOPE}
            return forms.requests if is_request else forms.rows
    return forms.rows


def _split(chunks: Iterable[bytes]) -> Iterator[bytearray | None]:
    """The lines, without their newlines; None stands for one that is too long to be kept."""
    line: bytearray | None = bytearray()
    for chunk in chunks:
        for newlines, piece in enumerate(chunk.split(b"\n")):
            if newlines:
                yield line
                line = bytearray()
            if line is not None:
                line += piece
                if len(line) > _MAX_LINE_BYTES:
                    line = None
    if line is None or line:
        yield line


def _decoded(lines: Iterable[bytearray | None]) -> Iterator[tuple[int, str | BadRow]]:
    """The lines that are not blank, with their numbers."""
    for number, line in enumerate(lines, 1):
        if line is None:
            limit = f"{_MAX_LINE_BYTES >> 20} MiB"
            yield number, BadRow(number, None, f"the line is longer than {limit}; shorten it")
            continue
        if number == 1:
            line = line.removeprefix(MARK)
        try:
            text = line.removesuffix(b"\r").decode()
        except UnicodeDecodeError as error:
            yield number, BadRow(number, None, f"not UTF-8 at byte {error.start}; convert it")
            continue
        if text and not text.isspace():
            yield number, text


def _hashed(chunks: Iterable[bytes], digest: hashlib.blake2b) -> Iterator[bytes]:
    for chunk in chunks:
        digest.update(chunk)
        yield chunk


def _read(file: BinaryIO, offset: int, source: str) -> bytes:
    # By position, so that the rows can be read by several at a time.
    try:
        return os.pread(file.fileno(), _CHUNK_BYTES, offset)
    except OSError as error:
        raise BatchError(f"cannot read prompts from {source}: {error.strerror}") from error


def _state(file: BinaryIO) -> tuple[int, int]:
    """What changes with a file's content: its size, and when it was written, in ns."""
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns


def _listed(repeated: Mapping[str | int, Sequence[int]]) -> str:
    """Ids with the lines that they stand in, a few of each."""
    parts = []
    for row_id, lines in itertools.islice(repeated.items(), _MAX_SHOWN):
        numbers = ", ".join(map(str, lines[:_MAX_SHOWN]))
        more = ", ..." if len(lines) > _MAX_SHOWN else ""
        parts.append(f"{shown(row_id)} (lines {numbers}{more})")
    if len(repeated) > _MAX_SHOWN:
        parts.append(f"and {len(repeated) - _MAX_SHOWN} more")
    return ", ".join(parts)
