from __future__ import annotations

import json
import os

import pytest

from pipelines.common.cache import KINDS, Cache

pytestmark = pytest.mark.usefixtures("own_cache")

RUN = ["llama3", "--prompt", "Once upon a time", "--max-new-tokens", "12", "--target", "cpu"]


def fill():
    for key in ("ab" * 16, "cd" * 16):
        Cache.default().put(
            "graph", key, lambda folder: (folder / "file").write_bytes(b"x" * 2000), f"graph {key}"
        )


def test_list_and_clear(cli):
    fill()
    lines = cli("cache", "list").out.splitlines()
    assert len(lines) == 3
    assert lines[0].split()[:3] == ["graph", "2.1", "KiB"]
    assert lines[-1].startswith("2 entries, 4.")
    assert lines[-1].endswith(f" KiB of at most 32.0 GiB, in {Cache.default().root}")
    assert cli("cache", "clear").out.startswith("freed ")
    assert cli("cache", "list").out.startswith("0 entries, 0 B")
    assert Cache.default().entries() == []


def test_list_as_json(cli):
    fill()
    record = json.loads(cli("cache", "list", "--json").out)
    assert record["path"] == str(Cache.default().root)
    assert {entry["key"] for entry in record["entries"]} == {"ab" * 16, "cd" * 16}
    assert all(entry["size_bytes"] >= 2000 for entry in record["entries"])


def test_entries_of_zeros_are_made_again(cli):
    """As after a power cut; sizes and times are as they were."""
    wanted = cli(*RUN)
    assert (wanted.code, wanted.err.count("damaged")) == (0, 0)
    entries = Cache.default().entries()
    assert {entry.kind for entry in entries} == set(KINDS)
    for file in [file for entry in entries for file in entry.path.iterdir()]:
        if file.name != "meta.json":
            status = file.stat()
            file.write_bytes(bytes(status.st_size))
            os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    again = cli(*RUN)
    assert (again.code, again.out) == (0, wanted.out)
    told = [line for line in again.err.splitlines() if "damaged" in line]
    assert len(told) == len(entries)
    assert all(any(str(entry.path) in line for line in told) for entry in entries)
    third = cli(*RUN)
    assert (third.out, third.err.count("damaged")) == (wanted.out, 0)


def test_a_cache_that_cannot_be_read_is_one_line(cli, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("RUN_PIPELINE_CACHE", str(tmp_path / "file"))
    outcome = cli("cache", "clear")
    assert outcome.code == 1
    assert str(tmp_path / "file") in outcome.error
