from __future__ import annotations

import json

from pipelines.common.cache import Cache


def fill():
    for key in ("ab" * 16, "cd" * 16):
        Cache.default().put(
            "graph", key, lambda folder: (folder / "file").write_bytes(b"x" * 1500), f"graph {key}"
        )


def test_list_and_clear(cli):
    fill()
    lines = cli("cache", "list").out.splitlines()
    assert len(lines) == 3
    assert lines[0].split()[:3] == ["graph", "1.5", "KiB"]
    assert lines[-1].startswith("2 entries, 3.")
    assert lines[-1].endswith(f" KiB of at most 32.0 GiB, in {Cache.default().root}")
    assert cli("cache", "clear").out.startswith("freed ")
    assert cli("cache", "list").out.startswith("0 entries, 0 B")
    assert Cache.default().entries() == []


def test_list_as_json(cli):
    fill()
    record = json.loads(cli("cache", "list", "--json").out)
    assert record["path"] == str(Cache.default().root)
    assert {entry["key"] for entry in record["entries"]} == {"ab" * 16, "cd" * 16}
    assert all(entry["size_bytes"] >= 1500 for entry in record["entries"])


def test_a_cache_that_cannot_be_read_is_one_line(cli, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("RUN_PIPELINE_CACHE", str(tmp_path / "file"))
    outcome = cli("cache", "clear")
    assert outcome.code == 1
    assert str(tmp_path / "file") in outcome.error
