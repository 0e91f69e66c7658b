"""Outputs: files that are killed, torn, filled up and shared, and what is found in them after."""

from __future__ import annotations

import errno
import fcntl
import io
import json
import os
import random
import resource
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest
from processes import exit_codes, spawn

from pipelines.common.batch import output as output_module
from pipelines.common.batch.manifest import manifest_path, read_manifest, write_manifest
from pipelines.common.batch.output import Output, OutputFile, OutputStream
from pipelines.common.errors import BatchError, OutputError, ReaderGoneError

SETTINGS = {"model": "a.gguf", "temperature": 0.5}


class LineForm:
    """Records are objects with a line, and an error if the row failed."""

    name = "line"

    def recorded(self, record: Any) -> tuple[int, bool] | None:
        if isinstance(record, dict) and isinstance(record.get("line"), int):
            return record["line"], "error" not in record
        return None

    parse = record = failure = None  # an output only asks what a record tells


FORM: Any = LineForm()


def record_of(line: int) -> dict[str, Any]:
    return {"line": line, "text": f"ü\n\x00 {line} 🦙"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "answers.jsonl"


def resume(path: Path) -> OutputFile:
    return OutputFile.resume(path, SETTINGS, FORM, range(1, 1 << 20))


def fill(path: Path, *lines: int) -> bytes:
    """Makes an output with records of `lines` and returns what it holds."""
    with closing(OutputFile.create(path, SETTINGS)) as output:
        for line in lines:
            output.write(record_of(line))
    return path.read_bytes()


def refusal(path: Path) -> str:
    """What is wrong with an output, in which nothing is changed."""
    before = path.read_bytes()
    with pytest.raises(BatchError) as caught:
        resume(path)
    assert path.read_bytes() == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


def records(path: Path) -> list[Any]:
    content = path.read_bytes()
    assert content == b"" or content.endswith(b"\n")
    return [json.loads(line) for line in content.split(b"\n")[:-1]]


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


# --- what is refused


def test_an_existing_output_is_not_written_over(path: Path) -> None:
    content = fill(path, 1)
    with pytest.raises(BatchError) as caught:
        OutputFile.create(path, SETTINGS)
    assert str(caught.value) == (
        f"{path} exists; finish it with `resume`, or choose another `output`"
    )
    assert path.read_bytes() == content


@pytest.mark.parametrize("kind", ["empty", "dangling link", "link", "manifest"])
def test_whatever_exists_is_not_written_over(path: Path, tmp_path: Path, kind: str) -> None:
    existing = path
    if kind == "empty":
        path.touch()
    elif kind == "dangling link":
        path.symlink_to(tmp_path / "nothing")
    elif kind == "link":
        (tmp_path / "mine").write_text("mine")
        path.symlink_to(tmp_path / "mine")
    else:
        write_manifest(path, {})
        existing = manifest_path(path)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(BatchError, match="exists; finish it with `resume`") as caught:
        OutputFile.create(path, SETTINGS)
    assert str(caught.value).startswith(f"{existing} exists")
    assert sorted(tmp_path.iterdir()) == before


def test_an_output_that_appears_at_the_last_moment(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = fill(path, 1)
    monkeypatch.setattr(os.path, "lexists", lambda _: False)
    with pytest.raises(BatchError, match="exists; finish it with `resume`"):
        OutputFile.create(path, {"model": "b.gguf"})
    assert path.read_bytes() == content
    assert read_manifest(path) == SETTINGS


def test_other_settings_are_refused(path: Path) -> None:
    content = fill(path, 1)
    path.write_bytes(content + b'{"line": 2, "te')
    with pytest.raises(BatchError, match=r"other settings: temperature 0\.5, now 0\.6;"):
        OutputFile.resume(path, {**SETTINGS, "temperature": 0.6}, FORM, range(9))
    assert path.read_bytes() == content + b'{"line": 2, "te'
    assert read_manifest(path) == SETTINGS


def test_other_settings_than_those_of_a_manifest_without_output(path: Path) -> None:
    write_manifest(path, {**SETTINGS, "temperature": 0.6})
    with pytest.raises(BatchError, match=r"other settings: temperature 0\.6, now 0\.5;"):
        resume(path)
    assert not path.exists()


def test_an_output_without_manifest_is_refused(path: Path) -> None:
    fill(path, 1)
    manifest_path(path).unlink()
    assert refusal(path) == (
        f"{path} has no answers.jsonl.manifest.json beside it, so what it was made with is not "
        "known; restore that, or choose another `output`"
    )
    assert not manifest_path(path).exists()


@pytest.mark.parametrize(
    "bad", [b"", b"{}", b"[1]", b"nonsense", b"\xff", b'{"line": 2', b"[" * 100_000]
)
@pytest.mark.parametrize("after", [b'{"line": 3}\n', b'{"line": 3}', b"\0"])
def test_a_bad_line_in_the_middle_is_no_tear(path: Path, bad: bytes, after: bytes) -> None:
    content = fill(path, 1)
    path.write_bytes(content + bad + b"\n" + after)
    assert refusal(path) == (
        f"{path}, line 2: not a record of this batch; repair or remove that line, or choose "
        "another `output`"
    )


def test_a_row_that_was_recorded_twice(path: Path) -> None:
    content = fill(path, 7, 1, 2)
    path.write_bytes(content + b'{"line": 1, "error": "?"}\n')
    assert refusal(path) == (
        f"{path}, line 4: a second record of line 1 of the input; repair or remove that line, or "
        "choose another `output`"
    )


@pytest.mark.parametrize("begin", [OutputFile.create, lambda path, _: resume(path)])
def test_no_folder_to_write_to(tmp_path: Path, begin: Any) -> None:
    path = tmp_path / "missing" / "answers.jsonl"
    with pytest.raises(BatchError) as caught:
        begin(path, SETTINGS)
    assert str(caught.value) == (
        f"cannot write {path}: No such file or directory; choose an `output` in a folder that "
        "exists and can be written"
    )


@pytest.mark.parametrize("begin", [OutputFile.create, lambda path, _: resume(path)])
def test_a_name_that_is_too_long(tmp_path: Path, begin: Any) -> None:
    with pytest.raises(BatchError, match="File name too long"):
        begin(tmp_path / ("x" * 300), SETTINGS)


@pytest.mark.skipif(os.geteuid() == 0, reason="modes do not bind the superuser")
def test_a_folder_that_cannot_be_written(path: Path) -> None:
    path.parent.chmod(0o500)
    with pytest.raises(BatchError, match="Permission denied; choose an `output` in a folder"):
        OutputFile.create(path, SETTINGS)


@pytest.mark.parametrize("begin", [OutputFile.create, lambda path, _: resume(path)])
@pytest.mark.parametrize("kind", ["folder", "pipe", "device"])
def test_what_is_no_file(tmp_path: Path, begin: Any, kind: str) -> None:
    path = Path(os.devnull) if kind == "device" else tmp_path / "answers.jsonl"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    with pytest.raises(BatchError) as caught:
        begin(path, SETTINGS)
    assert str(caught.value) == (
        f"{path} is no regular file, which `output` has to be; write to a pipe with `OutputStream`"
    )
    assert not manifest_path(path).exists()


def test_a_manifest_that_cannot_be_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(BatchError, match=r"manifest\.json: No space left.* with `resume`"):
            OutputFile.create(path, SETTINGS)
    with closing(resume(path)) as output:
        assert output.done == set()


# --- several runs


@contextmanager
def held_elsewhere(path: Path) -> Iterator[None]:
    """A lock such as that of another process."""
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def test_an_output_that_another_run_writes_to(path: Path) -> None:
    content = fill(path, 1)
    path.write_bytes(content + b'{"line": 2')  # as far as that run has come
    with held_elsewhere(path):
        assert refusal(path) == (
            f"another run is writing to {path}; wait for its end, or choose another `output`"
        )
    resume(path).close()


def test_an_output_is_locked_from_its_beginning_to_its_end(path: Path) -> None:
    for begin in (lambda: OutputFile.create(path, SETTINGS), lambda: resume(path)):
        with closing(begin()):
            assert "another run is writing to" in refusal(path)
    resume(path).close()


def test_a_refused_output_is_let_go_of(path: Path) -> None:
    content = fill(path, 1)
    path.write_bytes(b"{}\n" + content)
    assert "line 1: not a record" in refusal(path)
    path.write_bytes(content)
    resume(path).close()


def _begin_at_the_same_time(path: Path, barrier: Barrier, number: int) -> None:
    barrier.wait(timeout=60)
    try:
        output = OutputFile.create(path, {"run": number})
    except BatchError as error:
        sys.exit(0 if "exists; finish it with `resume`" in str(error) else 2)
    with closing(output):
        output.write({"line": number})
    sys.exit(1)


def test_of_several_runs_that_begin_an_output_one_does(path: Path) -> None:
    barrier = spawn.Barrier(3)
    runs = [
        spawn.Process(target=_begin_at_the_same_time, args=(path, barrier, number))
        for number in range(3)
    ]
    codes = exit_codes(runs)
    assert sorted(codes, key=str) == [0, 0, 1]
    assert records(path) == [{"line": codes.index(1)}]
    assert read_manifest(path) == {"run": codes.index(1)}


# --- sudden ends


def _write_rows(path: Path, rows: int) -> None:
    """Writes what is not done yet, in an order that is not the input's."""
    output = resume(path)
    left = [line for line in range(rows) if line not in output.done]
    random.Random(len(left)).shuffle(left)
    with closing(output):
        for line in left:
            output.write({**record_of(line), "long": "x" * (line % 7000)})


def test_killed_again_and_again_and_resumed(path: Path) -> None:
    rows = 20_000
    size = 0
    for _ in range(4):
        run = spawn.Process(target=_write_rows, args=(path, rows))
        run.start()
        deadline = time.monotonic() + 60
        while (path.stat().st_size if path.exists() else 0) < size + 100_000:
            assert time.monotonic() < deadline
            assert run.is_alive()
            time.sleep(0.001)
        os.kill(run.pid or 0, signal.SIGKILL)
        run.join()
        assert run.exitcode == -signal.SIGKILL
        with closing(resume(path)) as output:
            told = [record["line"] for record in records(path)]
            assert sorted(told) == sorted(output.done)
        assert path.stat().st_size > size
        size = path.stat().st_size
    assert 0 < len(records(path)) < rows
    _write_rows(path, rows)
    written = records(path)
    assert sorted(record["line"] for record in written) == list(range(rows))
    for record in written:
        assert record.items() >= record_of(record["line"]).items()


@contextmanager
def file_size_limit(size_bytes: int) -> Iterator[None]:
    """Files cannot grow beyond that, as on a full disk: what fits is written, the rest is not."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_keeps_what_is_complete(path: Path) -> None:
    complete = fill(path, 1, 2)
    record = record_of(3)
    for room in range(len(json.dumps(record, ensure_ascii=False).encode()) + 1):
        output = resume(path)
        with file_size_limit(len(complete) + room), pytest.raises(BatchError) as caught:
            output.write(record)
        assert str(caught.value) == (
            f"cannot write to {path}: File too large; what is complete is kept: make room and go "
            "on with `resume`"
        )
        assert path.read_bytes() == complete
        output.close()
    with closing(resume(path)) as output:
        output.write(record)
    assert records(path) == [record_of(1), record_of(2), record]


def test_a_full_disk_that_cannot_even_cut_a_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    complete = fill(path, 1)

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    output = resume(path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "ftruncate", fail)
        with file_size_limit(len(complete) + 10), pytest.raises(BatchError, match="too large"):
            output.write(record_of(2))
    output.close()
    assert path.stat().st_size == len(complete) + 10
    with closing(resume(path)) as output:
        assert output.done == {1}
    assert path.read_bytes() == complete


@pytest.mark.parametrize("written", [0, 5, 1000])
def test_an_interrupt_leaves_no_half_record(
    path: Path, monkeypatch: pytest.MonkeyPatch, written: int
) -> None:
    write = os.write

    def interrupted(descriptor: int, data: memoryview) -> int:
        write(descriptor, data[:written])
        raise KeyboardInterrupt

    with closing(OutputFile.create(path, SETTINGS)) as output:
        output.write(record_of(1))
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", interrupted)
            with pytest.raises(KeyboardInterrupt):
                output.write(record_of(2))
        output.write(record_of(3))
    assert records(path) == [record_of(1), record_of(3)]


def test_a_disk_that_fails_when_the_output_is_closed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    output = OutputFile.create(path, SETTINGS)
    output.write(record_of(1))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(BatchError, match=r"cannot write to .*: Input/output error; what is"):
            output.close()
    with closing(resume(path)) as output:  # which is not locked any more
        assert output.done == {1}


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
