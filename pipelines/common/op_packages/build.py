"""Compiles the library of an op package that comes with its sources."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pipelines.common.errors import OpPackageError
from pipelines.common.files import is_file
from pipelines.common.op_packages.freshness import SCRIPT, note_sources, source_digest
from pipelines.common.op_packages.manifest import MANIFEST, read_manifest
from pipelines.common.shipped import shipped
from pipelines.common.system import cores

_NO_COMPILER = re.compile(
    r"No CMAKE_CXX_COMPILER could be found"
    r"|CMAKE_CXX_COMPILER:\s+\S+\s+is not"
    r"|Could not find (?:the )?compiler (?:set|specified)"
)
_COMPILER_ERROR = re.compile(
    r"^.*(?:\berror: |undefined reference to |Undefined symbols).+$", re.MULTILINE
)
_CMAKE_ERROR = re.compile(
    r"^CMake Error(?: at (\S+:\d+))?[^\n]*?:\s+(.+?)(?:\n\n|\Z)", re.MULTILINE | re.DOTALL
)


def include_folder() -> Path:
    """The folder with the C++ header for kernels, in a checkout as in an installation.

    Raises:
        OpPackageError: It is not there.
    """
    folder = shipped("custom_ops")
    if folder is None:
        raise OpPackageError("the header for kernels is missing; install the project again")
    return folder / "include"


def build(path: Path) -> Path:
    """Compiles a package's library and puts it into its folder.

    The build is CMake's, in a folder of its own; nothing in the package changes before it is done.

    Args:
        path: A folder with a manifest that names a library, and a `CMakeLists.txt` whose install
            rule puts that library in the root of the prefix.

    Returns:
        The library's file.

    Raises:
        OpPackageError: The package has no sources, CMake or a compiler is missing, or it does not
            compile.
    """
    manifest = read_manifest(path)
    if manifest.library is None or not is_file(path / SCRIPT):
        raise OpPackageError(
            f"{path} has nothing to build: expected a folder with a {SCRIPT} and a {MANIFEST} that"
            " names its library"
        )
    cmake = shutil.which("cmake")
    if cmake is None:
        raise OpPackageError(
            f"building {path} needs CMake, which is not installed: pip install cmake"
        )
    sources = source_digest(path)
    with tempfile.TemporaryDirectory() as folder:
        binary, stage = Path(folder, "build"), Path(folder, "stage")
        configure: list[str | Path] = [cmake, "-S", path, "-B", binary]
        configure += ["-DCMAKE_BUILD_TYPE=Release", f"-DCUSTOM_OPS_INCLUDE_DIR={include_folder()}"]
        if shutil.which("ninja"):
            configure += ["-G", "Ninja"]
        _run(path, configure)
        _run(path, [cmake, "--build", binary, "--config", "Release", "--parallel", str(cores())])
        _run(path, [cmake, "--install", binary, "--config", "Release", "--prefix", stage])
        suffix = ".dylib" if sys.platform == "darwin" else ".so"
        return _install(path, stage, f"lib{manifest.library}{suffix}", sources)


def _run(path: Path, command: Sequence[str | Path]) -> None:
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode:
        raise OpPackageError(f"building {path} failed: {_first_error(done.stdout)}")


def _first_error(output: str) -> str:
    """The line of a build's output that says what is wrong."""
    if _NO_COMPILER.search(output):
        return "there is no C++ compiler; install one, such as g++ or clang++"
    if found := _CMAKE_ERROR.search(output):
        place, message = found.groups()
        return f"{f'{place}: ' if place else ''}{' '.join(message.split())}"
    if found := _COMPILER_ERROR.search(output):
        return found[0].strip()
    return output.strip().rpartition("\n")[2]


def _install(path: Path, stage: Path, name: str, sources: str) -> Path:
    """Moves the library into the package; one that a process has loaded is not written over."""
    if not is_file(stage / name):
        made = ", ".join(sorted(file.name for file in stage.glob("*"))) or "nothing"
        raise OpPackageError(
            f"building {path} made no {name}: its install rule puts {made} in the prefix's root"
        )
    library = path / name
    try:
        partial = shutil.copy(stage / name, path / f".{name}.{os.getpid()}")
        Path(partial).replace(library)
        note_sources(library, sources)
    except OSError as error:
        raise OpPackageError(f"cannot write {library}: {error.strerror}") from error
    return library
