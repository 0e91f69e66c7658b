"""Entries that something has happened to are made again."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from cache_entries import KEY, leftovers, store

from pipelines.common.cache import Cache
from pipelines.common.errors import CacheError


def _truncate(entry: Path) -> None:
    (entry / "inner" / "data").write_bytes(b"con")


def _zeros(entry: Path) -> None:
    file = entry / "inner" / "data"
    file.write_bytes(bytes(file.stat().st_size))


def _zeros_with_the_old_times(entry: Path) -> None:
    status = (entry / "inner" / "data").stat()
    _zeros(entry)
    os.utime(entry / "inner" / "data", ns=(status.st_atime_ns, status.st_mtime_ns))


def _lose_file(entry: Path) -> None:
    (entry / "inner" / "data").unlink()


def _pipe(entry: Path) -> None:
    _lose_file(entry)
    os.mkfifo(entry / "inner" / "data")


def _folder(entry: Path) -> None:
    _lose_file(entry)
    (entry / "inner" / "data").mkdir()


def _dangling_link(entry: Path) -> None:
    _lose_file(entry)
    (entry / "inner" / "data").symlink_to("nowhere")


def _link_to_other_content(entry: Path) -> None:
    _zeros(entry)
    other = entry.parents[1] / "other"
    (entry / "inner" / "data").replace(other)
    (entry / "inner" / "data").symlink_to(other)


def _lose_meta(entry: Path) -> None:
    (entry / "meta.json").unlink()


def _cut_meta(entry: Path) -> None:
    (entry / "meta.json").write_text('{"description": "x", "fi')


def _foreign_meta(entry: Path) -> None:
    (entry / "meta.json").write_text("[1, 2]")


def _zero_meta(entry: Path) -> None:
    (entry / "meta.json").write_bytes(bytes((entry / "meta.json").stat().st_size))


def _pipe_as_meta(entry: Path) -> None:
    _lose_meta(entry)
    os.mkfifo(entry / "meta.json")


def _file_in_its_place(entry: Path) -> None:
    shutil.rmtree(entry)
    entry.write_text("not a directory")


def _dangling_link_in_its_place(entry: Path) -> None:
    shutil.rmtree(entry)
    entry.symlink_to("nowhere")


def _loop_in_its_place(entry: Path) -> None:
    shutil.rmtree(entry)
    entry.symlink_to(entry)


DAMAGES = [
    _truncate,
    _zeros,
    _zeros_with_the_old_times,
    _lose_file,
    _pipe,
    _folder,
    _dangling_link,
    _link_to_other_content,
    _lose_meta,
    _cut_meta,
    _foreign_meta,
    _zero_meta,
    _pipe_as_meta,
    _file_in_its_place,
    _dangling_link_in_its_place,
    _loop_in_its_place,
]


@pytest.mark.parametrize("size", [7, 3 << 20], ids=["small", "large"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_entry_is_a_miss(
    tmp_path: Path, damage: Callable[[Path], None], size: int
) -> None:
    notices: list[str] = []
    cache = Cache(tmp_path, notice=notices.append)
    path = store(cache, KEY, b"x" * size)
    damage(path)
    assert cache.get("graph", KEY) is None
    assert not os.path.lexists(path)
    assert notices == [f"{path} in the cache is damaged, and is made again"]
    damage(store(cache, KEY, b"x" * size))  # and without a look at it before the next write
    store(cache, KEY, b"again")
    assert (path / "inner" / "data").read_bytes() == b"again"
    assert cache.get("graph", KEY) == path
    assert leftovers(cache) == []


def test_other_files_in_an_entry_do_no_harm(tmp_path: Path) -> None:
    """Core ML puts what it compiles beside the weights."""
    cache = Cache(tmp_path)
    path = store(cache, KEY)
    (path / "compiled").mkdir()
    (path / "compiled" / "more").write_text("more")
    assert cache.get("graph", KEY) == path


def test_an_entry_that_cannot_be_dropped_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As another user's, in a folder that is shared."""
    cache = Cache(tmp_path)
    _zeros(store(cache, KEY))

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "rename", refuse)
    assert cache.get("graph", KEY) is None
    with pytest.raises(CacheError, match="Permission denied"):
        store(cache, KEY)


def test_what_lies_among_unfinished_entries_does_no_harm(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    (tmp_path / "staging").mkdir()
    (tmp_path / "staging" / "file").write_text("mine")
    (tmp_path / "staging" / "link").symlink_to("nowhere")
    path = store(cache, KEY)
    assert cache.get("graph", KEY) == path
