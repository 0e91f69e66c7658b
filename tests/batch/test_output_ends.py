"""Outputs that several runs want, and runs that end in the middle of a record."""

from __future__ import annotations

import errno
import fcntl
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

import pytest
from output_files import SETTINGS, fill, record_of, records, refusal, resume
from processes import exit_codes, spawn

from pipelines.common.batch.manifest import read_manifest
from pipelines.common.batch.output import OutputFile
from pipelines.common.errors import BatchError


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
