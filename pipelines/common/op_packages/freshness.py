"""Whether the library of an op package is what its sources make."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Final

from pipelines.common.op_packages.manifest import Manifest

SCRIPT: Final = "CMakeLists.txt"

_SUFFIXES: Final = frozenset(
    (
        *(".c", ".cc", ".cpp", ".cxx", ".cu", ".m", ".mm", ".s", ".S", ".asm", ".cmake"),
        *(".h", ".hh", ".hpp", ".hxx", ".inl", ".ipp", ".cuh"),
    )
)
_APART: Final = ("build", "tests")
"""Folders of what the library is not made of."""

_UNPACKED_S: Final = 60
"""Files that are unpacked together have times of that moment, in whatever order they come."""


def source_files(folder: Path) -> list[Path]:
    """What the library of a package is compiled from, in a fixed order, but for headers outside."""
    return sorted(
        path
        for path in folder.rglob("*")
        if (path.suffix in _SUFFIXES or path.name == SCRIPT)
        and path.is_file()
        and not any(
            part in _APART or part.startswith(".") for part in path.relative_to(folder).parts
        )
    )


def source_digest(folder: Path) -> str:
    """A digest of them.

    Raises:
        OSError: One cannot be read.
    """
    digest = hashlib.blake2b(digest_size=16)
    for path in source_files(folder):
        content = hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
        digest.update(f"{path.relative_to(folder).as_posix()}\0{content}\n".encode())
    return digest.hexdigest()


def note_sources(library: Path, sources: str) -> None:
    """Writes down which sources a library was made from.

    Args:
        library: The library, as it was just built.
        sources: What `source_digest` said before that.

    Raises:
        OSError: It cannot be written.
    """
    _note(library).write_text(f"{sources} {_identity(library)}\n", encoding="utf-8")


def outdated(manifest: Manifest) -> str:
    """Why a package's library is not what its sources make; empty if it is, or has no sources."""
    library = manifest.find_library()
    if library is None or manifest.bare or not (manifest.path / SCRIPT).is_file():
        return ""
    try:
        noted, _, identity = _read(_note(library)).partition(" ")
        if identity == _identity(library):
            same = noted == source_digest(manifest.path)
            return "" if same else "was built from other sources than are there now"
        # Built by other means, as when the project is installed.
        built = library.stat().st_mtime
        times = {path: path.stat().st_mtime for path in source_files(manifest.path)}
    except OSError:
        return ""
    newest = max(times, key=times.__getitem__)
    if times[newest] <= built + _UNPACKED_S:
        return ""
    return f"is older than {newest.relative_to(manifest.path)}"


def _note(library: Path) -> Path:
    return library.with_name(f".{library.name}.sources")


def _identity(library: Path) -> str:
    status = os.stat(library)  # noqa: PTH116
    return f"{status.st_size} {status.st_mtime_ns}"


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return ""
