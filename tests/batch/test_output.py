"""Outputs: files that are written and gone on with, torn or not, and streams."""

from __future__ import annotations

import fcntl
import io
import json
import os
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from output_files import SETTINGS, fill, record_of, records, resume

from pipelines.common.batch import output as output_module
from pipelines.common.batch.manifest import manifest_path, read_manifest, write_manifest
from pipelines.common.batch.output import Output, OutputFile, OutputStream
from pipelines.common.errors import BatchError, OutputError, ReaderGoneError

# --- writing


def test_a_record_is_a_line_as_soon_as_it_is_written(path: Path) -> None:
    output: Output
    with closing(OutputFile.create(path, SETTINGS)) as output:
        for line in (2, 1):
            output.write(record_of(line))
            assert records(path)[-1] == record_of(line)
    assert records(path) == [record_of(2), record_of(1)]
    assert "ü".encode() in path.read_bytes()
    assert "🦙".encode() in path.read_bytes()
    assert read_manifest(path) == SETTINGS


def test_half_a_surrogate_pair_is_escaped(path: Path) -> None:
    written = [{"line": 1, "extra": "ü \ud83e"}, {"line": 2, "extra": "ü"}]
    with closing(OutputFile.create(path, SETTINGS)) as output:
        for record in written:
            output.write(record)
    assert records(path) == written
    assert path.read_bytes().splitlines()[1] == '{"line": 2, "extra": "ü"}'.encode()
    with closing(resume(path)) as output:
        assert output.done == {1, 2}


def test_the_umask_decides_who_can_read(path: Path) -> None:
    before = os.umask(0o027)
    try:
        fill(path, 1)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o640
    assert manifest_path(path).stat().st_mode & 0o777 == 0o640


def test_what_is_closed_is_on_the_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = OutputFile.create(path, SETTINGS)
    output.write(record_of(1))
    synced = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor)))
    output.close()
    assert [(status.st_ino, status.st_size) for status in synced] == [
        (path.stat().st_ino, path.stat().st_size)
    ]


def test_a_long_run_is_on_the_disk_but_for_the_last_seconds(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with closing(OutputFile.create(path, SETTINGS)) as output, monkeypatch.context() as patch:
        sizes: list[int] = []
        patch.setattr(os, "fsync", lambda descriptor: sizes.append(os.fstat(descriptor).st_size))
        for _ in range(10):
            output.write(record_of(1))
        assert sizes == []
        for _ in range(2):
            now += output_module._SYNC_SECONDS
            output.write(record_of(1))
            output.write(record_of(1))
        record_bytes = path.stat().st_size // 14
        assert sizes == [11 * record_bytes, 13 * record_bytes]


def test_a_system_that_takes_a_few_bytes_at_a_time(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    with closing(OutputFile.create(path, SETTINGS)) as output, monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:3]))
        output.write(record_of(1))
        output.write(record_of(2))
    assert records(path) == [record_of(1), record_of(2)]


# --- going on


def test_one_command_can_be_repeated_from_the_beginning(path: Path) -> None:
    for line in range(1, 4):
        with closing(resume(path)) as output:
            assert output.done == set(range(1, line))
            output.write(record_of(line))
    assert records(path) == [record_of(1), record_of(2), record_of(3)]


def test_done_rows_and_failed_rows_are_told(path: Path) -> None:
    with closing(OutputFile.create(path, SETTINGS)) as output:
        assert (output.done, output.failed) == (set(), 0)
        for record in (record_of(5), {"line": 2, "error": "too long"}, record_of(1)):
            output.write(record)
    with closing(resume(path)) as output:
        assert (output.done, output.failed) == ({1, 2, 5}, 1)


def test_a_torn_record_is_cut_off_wherever_it_ends(path: Path) -> None:
    complete = fill(path, 1, 2)
    torn = json.dumps(record_of(3), ensure_ascii=False).encode()
    for end in range(len(torn) + 1):
        path.write_bytes(complete + torn[:end])
        with closing(resume(path)) as output:
            assert output.done == {1, 2}, end
            assert path.read_bytes() == complete
            output.write(record_of(3))
        assert path.read_bytes() == complete + torn + b"\n"


@pytest.mark.parametrize(
    "tail",
    [
        bytes(10),
        bytes(10) + b"\n",
        b"{}\n",
        b"\n",
        b"\xff\xfe\n",
        b"[" * 100_000 + b"\n",
        b'{"line": 3, "te' + bytes(4096),
        b'{"line": 3, "te' + bytes(4096) + b'xt": ""}\n{"line": 4}\n',
        bytes(4096) + b'{"line": 4}\n{"line": 5',
        b'{"line": 3, "text": "' + b"x" * 1000,
    ],
)
@pytest.mark.parametrize("piece_bytes", [16, 1 << 26])
def test_what_a_power_failure_leaves_is_cut_off(
    path: Path, tail: bytes, piece_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output_module, "_PIECE_BYTES", piece_bytes)
    complete = fill(path, 1, 2)
    path.write_bytes(complete + tail)
    with closing(resume(path)) as output:
        assert output.done == {1, 2}
    assert path.read_bytes() == complete


def test_more_zeros_than_fit_into_memory(path: Path) -> None:
    complete = fill(path, 1)
    with path.open("r+b") as file:
        file.truncate(1 << 38)  # a hole, which takes no room
    with closing(resume(path)) as output:
        assert output.done == {1}
    assert path.read_bytes() == complete


@pytest.mark.parametrize("manifest", [False, True])
def test_a_run_that_was_killed_before_its_first_record(path: Path, manifest: bool) -> None:
    path.touch()  # the first thing that it makes
    if manifest:
        write_manifest(path, SETTINGS)
    with closing(resume(path)) as output:
        assert output.done == set()
        output.write(record_of(1))
    assert records(path) == [record_of(1)]
    assert read_manifest(path) == SETTINGS


def test_an_output_that_a_power_failure_took(path: Path) -> None:
    write_manifest(path, SETTINGS)
    with closing(resume(path)) as output:
        assert output.done == set()
        output.write(record_of(1))
    assert records(path) == [record_of(1)]


def test_a_run_without_a_record_leaves_nothing_behind(path: Path) -> None:
    OutputFile.create(path, SETTINGS).close()
    resume(path).close()
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("replaced", [False, True])
def test_an_output_that_is_removed_under_its_run(path: Path, replaced: bool) -> None:
    output = OutputFile.create(path, SETTINGS)
    output.write(record_of(1))
    path.unlink()
    if replaced:
        path.touch()
    with pytest.raises(BatchError, match="was removed or replaced while it was being written"):
        output.close()


def test_what_an_earlier_run_has_left_stays(path: Path) -> None:
    fill(path, 1)
    resume(path).close()
    assert records(path) == [record_of(1)]


def test_an_output_that_its_run_removes_while_it_is_opened(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = OutputFile.create(path, SETTINGS)
    lock = fcntl.flock

    def close_first(*arguments: int) -> None:
        first.close()
        path.touch()  # and a third run begins another one
        lock(*arguments)

    monkeypatch.setattr(fcntl, "flock", close_first)
    with pytest.raises(BatchError, match="another run is writing to"):
        resume(path)


def test_a_link_to_an_output_is_followed(path: Path, tmp_path: Path) -> None:
    path.symlink_to(tmp_path / "elsewhere.jsonl")
    with closing(resume(path)) as output:
        output.write(record_of(1))
    with closing(resume(path)) as output:
        assert output.done == {1}
    assert records(tmp_path / "elsewhere.jsonl") == [record_of(1)]


# --- streams


def test_a_stream_passes_each_record_on_at_once() -> None:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    with io.FileIO(reader) as read_end, os.fdopen(writer, "wb") as write_end:
        output: Output = OutputStream(write_end)
        for line in (1, 2):
            output.write(record_of(line))
            assert json.loads(read_end.read()) == record_of(line)
        output.close()
        output.write({"text": "\ud83e"})  # the stream is not the output's to close
        assert read_end.read() == b'{"text": "\\ud83e"}\n'


class Unwritable(io.BytesIO):
    def __init__(self, error: OutputError) -> None:
        super().__init__()
        self._error = error

    def write(self, _: Any) -> int:
        raise self._error


def test_a_reader_that_is_gone() -> None:
    with pytest.raises(ReaderGoneError):
        OutputStream(Unwritable(ReaderGoneError("gone"))).write(record_of(1))


def test_a_stream_that_cannot_be_written_to() -> None:
    with pytest.raises(BatchError) as caught:
        OutputStream(Unwritable(OutputError("cannot write"))).write(record_of(1))
    assert str(caught.value) == (
        "cannot write; make room, or name a file with `output`, which can be resumed"
    )
