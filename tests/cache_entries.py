"""Entries of a cache, as tests make and find them."""

from __future__ import annotations

import os
from pathlib import Path

from pipelines.common.cache import Cache, digest

KEY = digest("a key")


def store(cache: Cache, key: str, content: bytes = b"content", kind: str = "graph") -> Path:
    return cache.put(kind, key, lambda folder: fill(folder, content), f"entry {content[:8]!r}")


def fill(folder: Path, content: bytes) -> None:
    (folder / "inner").mkdir()
    (folder / "inner" / "data").write_bytes(content)


def leftovers(cache: Cache) -> list[Path]:
    return list((cache.root / "staging").iterdir())


def used_at(cache: Cache, path: Path, seconds: float) -> None:
    """Sets the time of last use, which the file system may keep too coarsely for a test."""
    os.utime(path / "meta.json", (seconds, seconds))
    assert seconds in [entry.last_used for entry in cache.entries()]
