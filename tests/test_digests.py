"""Digests of files' contents: what they depend on, and when a file is read again."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipelines.common.cache import Cache, digests
from pipelines.common.cache.digests import content_digest

CHUNK = 2 << 20
LARGE = bytes(range(256)) * (3 << 12)  # 3 MiB: of two chunks


def content(path: Path) -> str:
    with path.open("rb") as file:
        return content_digest(file.fileno())


def known(cache: Cache, path: Path) -> str:
    with path.open("rb") as file:
        return cache.digests.of(file.fileno())


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.gguf"
    path.write_bytes(LARGE)
    return path


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that the test writes count as older than the tick of a clock."""
    now = digests.time.time_ns
    monkeypatch.setattr(digests.time, "time_ns", lambda: now() + 10**10)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """An element for each file that has been read."""
    files: list[int] = []

    def counted(descriptor: int) -> str:
        files.append(descriptor)
        return content_digest(descriptor)

    monkeypatch.setattr(digests, "content_digest", counted)
    return files


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK])
def test_a_digest_is_of_size_and_chunks(tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    (tmp_path / "file").write_bytes(data)
    chunks = [hashlib.sha256(data[at : at + CHUNK]).digest() for at in range(0, size, CHUNK)]
    expected = hashlib.sha256(b"%d\n" % size + b"".join(chunks)).hexdigest()
    assert content(tmp_path / "file") == expected


def _touch(path: Path) -> None:
    os.utime(path, ns=(0, 1_700_000_000_000_000_000))


def _copy(path: Path) -> None:
    shutil.copyfile(path, path.with_suffix(".copy"))
    path.with_suffix(".copy").replace(path)


def _other_mode(path: Path) -> None:
    path.chmod(0o400)


@pytest.mark.parametrize("event", [_touch, _copy, _other_mode])
@pytest.mark.usefixtures("later")
def test_the_same_content_has_the_same_digest(
    tmp_path: Path, model: Path, event: Callable[[Path], None]
) -> None:
    before = known(Cache(tmp_path / "cache"), model)
    event(model)
    assert known(Cache(tmp_path / "cache"), model) == before == content(model)


def _flip_a_bit(path: Path) -> None:
    with path.open("rb+") as file:
        file.seek(len(LARGE) // 2 + 100)
        file.write(b"\xff")


@pytest.mark.usefixtures("later")
def test_a_change_in_place_shows_where_the_time_was_set_back(tmp_path: Path, model: Path) -> None:
    before = known(Cache(tmp_path / "cache"), model)
    status = model.stat()
    _flip_a_bit(model)
    os.utime(model, ns=(status.st_atime_ns, status.st_mtime_ns))
    after = model.stat()
    assert (after.st_ino, after.st_size) == (status.st_ino, status.st_size)
    assert after.st_mtime_ns == status.st_mtime_ns
    assert known(Cache(tmp_path / "cache"), model) == content(model) != before


@pytest.mark.usefixtures("later")
def test_a_large_file_is_read_once(tmp_path: Path, model: Path, read: list[int]) -> None:
    digest = known(Cache(tmp_path / "cache"), model)
    assert [known(Cache(tmp_path / "cache"), model) for _ in range(3)] == [digest] * 3
    assert len(read) == 1
    Cache(tmp_path / "cache").clear()
    assert known(Cache(tmp_path / "cache"), model) == digest
    assert len(read) == 2


@pytest.mark.usefixtures("later")
def test_a_small_file_is_read_once_by_a_process(tmp_path: Path, read: list[int]) -> None:
    path = tmp_path / "module.py"
    path.write_bytes(b"VALUE = 1\n")
    (digest,) = {known(Cache(tmp_path / "cache"), path) for _ in range(3)}
    assert len(read) == 1
    path.write_bytes(b"VALUE = 2\n")
    assert known(Cache(tmp_path / "cache"), path) == content(path) != digest


def test_a_file_that_may_still_be_changing_is_read_by_each_process(
    tmp_path: Path, model: Path, read: list[int]
) -> None:
    """A change within the same tick of the clock would not show."""
    cache = Cache(tmp_path / "cache")
    assert known(cache, model) == known(cache, model) == known(Cache(tmp_path / "cache"), model)
    assert len(read) == 2


def test_times_in_whole_seconds_are_no_witness() -> None:
    for ctime_ns, tells in ((10**18, False), (10**18 + 1, True)):
        status = SimpleNamespace(st_ctime_ns=ctime_ns)
        assert digests._tells(status) is tells  # type: ignore[arg-type]


@pytest.mark.parametrize("content", [b"", b"\0" * 100, b"[1]", b'{"a": 1}', b'{"a": [1]}', b"\xff"])
@pytest.mark.usefixtures("later")
def test_where_nothing_is_known_files_are_read(
    tmp_path: Path, model: Path, read: list[int], content: bytes
) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "digests.json").write_bytes(content)
    for _ in range(2):
        assert known(Cache(tmp_path / "cache"), model) == content_digest_of(LARGE, tmp_path)
    assert len(read) == 1


def content_digest_of(data: bytes, folder: Path) -> str:
    (folder / "other").write_bytes(data)
    return content(folder / "other")


@pytest.mark.usefixtures("later")
def test_where_nothing_can_be_written_files_are_read(
    tmp_path: Path, model: Path, read: list[int]
) -> None:
    (tmp_path / "file").touch()
    digest = known(Cache(tmp_path / "file"), model)
    assert known(Cache(tmp_path / "file"), model) == digest
    assert len(read) == 2


@pytest.mark.usefixtures("later")
def test_a_bounded_number_is_remembered(
    tmp_path: Path, read: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests, "_MOST", 2)
    monkeypatch.setattr(digests, "_SMALL_BYTES", 0)
    paths = [tmp_path / str(number) for number in range(3)]
    for path in paths:
        path.write_text(path.name)
        known(Cache(tmp_path / "cache"), path)
    for path in reversed(paths):
        known(Cache(tmp_path / "cache"), path)
    assert len(read) == 4


def test_the_caches_own_files_are_read_again_after_a_start_of_the_system(
    tmp_path: Path, read: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = Cache(tmp_path)
    cache.put("weights", "ab" * 20, lambda folder: (folder / "w").write_bytes(LARGE))
    read.clear()
    for boot, files in (("one", 1), ("one", 1), ("two", 2)):
        monkeypatch.setattr(digests, "_boot", lambda boot=boot: boot)
        assert Cache(tmp_path).get("weights", "ab" * 20)
        assert len(read) == files
