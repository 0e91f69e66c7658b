from __future__ import annotations

import errno
import os
import signal
import sys
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
from cache_entries import KEY, fill, leftovers, store, used_at
from processes import exit_codes, spawn

from pipelines.common.cache import Cache, digest
from pipelines.common.cache.location import DEFAULT_LIMIT_BYTES
from pipelines.common.errors import CacheError, UsageError


def test_what_was_put_is_found_by_another_cache_object(tmp_path: Path) -> None:
    assert Cache(tmp_path).get("graph", KEY) is None
    path = store(Cache(tmp_path), KEY, b"graph")
    assert Cache(tmp_path).get("graph", KEY) == path
    assert (path / "inner" / "data").read_bytes() == b"graph"
    assert Cache(tmp_path).get("weights", KEY) is None


def test_entries_tell_what_is_there(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    before = time.time()
    path = store(cache, KEY, bytes(1000))
    (entry,) = cache.entries()
    assert (entry.kind, entry.key, entry.path) == ("graph", KEY, path)
    assert entry.size_bytes == sum(f.stat().st_size for f in path.rglob("*") if f.is_file()) > 1000
    assert before - 1 < entry.last_used < time.time() + 1
    assert entry.description.startswith("entry")


def test_the_first_of_two_writers_of_a_key_wins(tmp_path: Path) -> None:
    cache = Cache(tmp_path)

    def slow(folder: Path) -> None:
        store(cache, KEY, b"first")
        fill(folder, b"second")

    path = cache.put("graph", KEY, slow, "slow")
    assert (path / "inner" / "data").read_bytes() == b"first"
    assert leftovers(cache) == []


def _put_at_the_same_time(root: Path, barrier: Barrier, content: bytes) -> None:
    def write(folder: Path) -> None:
        fill(folder, content)
        barrier.wait(timeout=30)

    path = Cache(root).put("graph", KEY, write, "")
    # The other process may have been first, but what is there is whole and of one process.
    if (path / "inner" / "data").read_bytes() not in (b"a" * 100_000, b"b" * 100_000):
        sys.exit(1)


def test_two_processes_fill_one_key(tmp_path: Path) -> None:
    barrier = spawn.Barrier(2)
    writers = [
        spawn.Process(target=_put_at_the_same_time, args=(tmp_path, barrier, letter * 100_000))
        for letter in (b"a", b"b")
    ]
    assert exit_codes(writers) == [0, 0]
    assert len(Cache(tmp_path).entries()) == 1
    assert leftovers(Cache(tmp_path)) == []


def _die_while_writing(root: Path) -> None:
    def write(folder: Path) -> None:
        fill(folder, b"half")
        os.kill(os.getpid(), signal.SIGKILL)

    Cache(root).put("graph", KEY, write, "")


def test_a_killed_writer_leaves_nothing_for_long(tmp_path: Path) -> None:
    writer = spawn.Process(target=_die_while_writing, args=(tmp_path,))
    cache = Cache(tmp_path)
    assert exit_codes([writer]) == [-signal.SIGKILL]
    assert cache.get("graph", KEY) is None
    assert len(leftovers(cache)) == 1
    store(cache, digest("another"))
    assert leftovers(cache) == []
    assert store(cache, KEY).exists()


def test_an_entry_being_written_is_left_alone_by_others(tmp_path: Path) -> None:
    def write(folder: Path) -> None:
        store(Cache(tmp_path), digest("another"))
        Cache(tmp_path).clear()
        fill(folder, b"whole")

    path = Cache(tmp_path).put("graph", KEY, write, "")
    assert (path / "inner" / "data").read_bytes() == b"whole"


def test_a_failing_writer_leaves_nothing(tmp_path: Path) -> None:
    cache = Cache(tmp_path)

    def write(folder: Path) -> None:
        fill(folder, b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.put("graph", KEY, write, "")
    assert cache.get("graph", KEY) is None
    assert leftovers(cache) == []


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    cache = Cache(tmp_path)

    def write(folder: Path) -> None:
        fill(folder, b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(CacheError, match=r"No space left on device.*RUN_PIPELINE_CACHE=") as caught:
        cache.put("graph", KEY, write, "")
    assert "\n" not in str(caught.value)
    assert leftovers(cache) == []


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    cache = Cache(tmp_path / "file")
    assert cache.get("graph", KEY) is None
    with pytest.raises(CacheError, match="cannot write the cache folder"):
        store(cache, KEY)
    with pytest.raises(CacheError, match="cannot read the cache folder"):
        cache.entries()
    with pytest.raises(CacheError, match="cannot clear the cache folder"):
        cache.clear()
    assert (tmp_path / "file").read_text() == "mine"


def test_a_folder_that_can_only_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache(tmp_path)
    path = store(cache, KEY)
    damaged = store(cache, digest("damaged"))
    (damaged / "meta.json").unlink()

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    # File modes would not do: they do not bind the superuser.
    for name in ("utime", "mkdir", "rename"):
        monkeypatch.setattr(os, name, refuse)
    assert cache.get("graph", KEY) == path
    assert cache.get("graph", digest("damaged")) is None


@pytest.mark.parametrize("limit_in_entries", [2, 1, 0])
def test_the_least_recently_used_go_first(tmp_path: Path, limit_in_entries: int) -> None:
    cache = Cache(tmp_path)
    old, older, oldest = (digest(name) for name in ("old", "older", "oldest"))
    for age, key in ((1, old), (2, older), (3, oldest)):
        used_at(cache, store(cache, key, bytes(100_000)), time.time() - 1000 * age)
    assert cache.get("graph", oldest)  # which makes it the most recently used
    cache.limit_bytes = limit_in_entries * 110_000
    store(cache, KEY, bytes(100_000))
    kept = [entry.key for entry in cache.entries()]
    # The newest one stays even when it alone is over the limit.
    assert set(kept) == ({KEY, oldest} if limit_in_entries == 2 else {KEY})


def test_an_evicted_file_stays_mapped(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    with (store(cache, KEY, b"in use") / "inner" / "data").open("rb") as file:
        cache.limit_bytes = 0
        store(cache, digest("another"))
        assert cache.get("graph", KEY) is None
        assert file.read() == b"in use"


def test_clear_by_kind_and_all(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    store(cache, KEY, bytes(1000), "graph")
    store(cache, KEY, bytes(2000), "weights")
    weights = next(entry for entry in cache.entries() if entry.kind == "weights")
    assert cache.clear("weights") == weights.size_bytes
    assert [entry.kind for entry in cache.entries()] == ["graph"]
    assert cache.clear() > 1000
    assert cache.entries() == []
    assert cache.clear() == 0
    assert Cache(tmp_path / "never written").clear() == 0


def test_other_peoples_files_are_never_touched(tmp_path: Path) -> None:
    mine = [tmp_path / "notes.txt", tmp_path / "graph" / "thesis.txt", tmp_path / "photos" / KEY]
    for path in mine:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    cache = Cache(tmp_path, limit_bytes=0)
    store(cache, KEY)
    store(cache, digest("another"))
    cache.clear()
    assert all(path.read_text() == "mine" for path in mine)


def test_keys_and_kinds_cannot_leave_the_folder(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    for kind, key in (("graph", "../../etc"), ("graph", "ABCDEF0123456789"), ("..", KEY)):
        with pytest.raises(ValueError, match="cache"):
            cache.get(kind, key)
    with pytest.raises(ValueError, match="unknown kind"):
        cache.clear("graphs")


def test_digest_tells_its_parts_apart() -> None:
    different = [
        ("ab",),
        ("a", "b"),
        ("b", "a"),
        (b"ab",),
        ("6162",),
        ({"a": "b"},),
        ({"a": 1, "b": [2]},),
        ({"a": 1, "b": "[2]"},),
        (),
        ("",),
    ]
    assert len({digest(*parts) for parts in different}) == len(different)
    assert digest({"x": 1, "y": 2}) == digest({"y": 2, "x": 1})
    Cache(Path("unused")).get("graph", digest("a digest is a key"))


def test_the_folder_is_the_users_own_by_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RUN_PIPELINE_CACHE", raising=False)
    monkeypatch.delenv("RUN_PIPELINE_CACHE_LIMIT", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setattr(sys, "platform", "linux")
    assert Cache.default().root == (tmp_path / "xdg" / "pipeline-driver").resolve()
    assert Cache.default().limit_bytes == DEFAULT_LIMIT_BYTES
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # to be ignored, says the specification
    assert Cache.default().root == (tmp_path / ".cache" / "pipeline-driver").resolve()
    monkeypatch.setattr(sys, "platform", "darwin")
    assert Cache.default().root == (tmp_path / "Library/Caches/pipeline-driver").resolve()
    monkeypatch.setenv("RUN_PIPELINE_CACHE", "~/mine")
    assert Cache.default().root == (tmp_path / "mine").resolve()


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("20G", 20 << 30),
        ("1.5k", 1536),
        ("500 MiB", 500 << 20),
        ("2TB", 2 << 40),
        ("123", 123),
        ("0", 0),
        ("9" * 400 + "T", 1 << 62),
    ],
)
def test_the_limit_is_a_size(text: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUN_PIPELINE_CACHE_LIMIT", text)
    assert Cache.default().limit_bytes == size


@pytest.mark.parametrize("text", ["lots", "-1", "20X", "G"])
def test_a_limit_that_is_no_size(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUN_PIPELINE_CACHE_LIMIT", text)
    with pytest.raises(UsageError, match=r"RUN_PIPELINE_CACHE_LIMIT.*20G"):
        Cache.default()
