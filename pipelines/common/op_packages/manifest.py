"""Where the parts of an op package are. Light: nothing of the package is imported or loaded."""

from __future__ import annotations

import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

from pipelines.common.errors import OpPackageError
from pipelines.common.files import exists, is_file, is_folder, read_document, resolved
from pipelines.common.shipped import compiled

MANIFEST = "op_package.toml"

LIBRARY_SUFFIXES = (".so", ".dylib")

_LARGEST_MANIFEST = 1 << 20


@dataclass(frozen=True)
class Manifest:
    """What a package consists of.

    Attributes:
        path: The folder or file that the package is.
        module: Its Python module with the rules; None for a bare library.
        library: Base name of its library, as the manifest has it; None without one.
        cpu: Processor features that the library cannot do without.
    """

    path: Path
    module: Path | None = None
    library: str | None = None
    cpu: tuple[str, ...] = ()

    @property
    def bare(self) -> bool:
        """Whether it is a shared library and nothing else."""
        return self.path.suffix in LIBRARY_SUFFIXES and not is_folder(self.path)

    def find_library(self) -> Path | None:
        """The library's file: in the folder, or where `pip install` has put it; None if nowhere."""
        if self.bare:
            return self.path
        if self.library is None:
            return None
        file = f"lib{self.library}{'.dylib' if sys.platform == 'darwin' else '.so'}"
        if is_file(self.path / file):
            return self.path / file
        return compiled(self.path, file)


def read_manifest(path: Path) -> Manifest:
    """Finds out of which form a package is, and reads its manifest if it has one.

    Raises:
        OpPackageError: There is nothing, or no op package, or its manifest is wrong.
    """
    if not exists(path):
        raise OpPackageError(f"no such op package: {path}")
    if is_file(path / MANIFEST):
        return _read(path, path / MANIFEST)
    if is_file(path) and path.suffix == ".py":
        return Manifest(path, module=path)
    if is_file(path) and path.suffix in LIBRARY_SUFFIXES:
        return Manifest(path)
    raise OpPackageError(
        f"{path} is not an op package: expected a folder with {MANIFEST}, a .py file, or a shared"
        f" library ({', '.join(LIBRARY_SUFFIXES)})"
    )


def _read(folder: Path, file: Path) -> Manifest:
    def wrong(what: str) -> OpPackageError:
        return OpPackageError(f"{file}: {what}")

    try:
        entries = tomllib.loads(read_document(file, _LARGEST_MANIFEST).decode())
    except OSError as error:
        raise wrong(f"cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise wrong(f"cannot be read: {error}") from error
    if unknown := entries.keys() - {"module", "library", "cpu"}:
        raise wrong(f"unknown key '{min(unknown)}'; expected module, library and cpu")
    module, library, cpu = (entries.get(key) for key in ("module", "library", "cpu"))
    for key, value in (("module", module), ("library", library)):
        if not isinstance(value, str | None) or value == "":
            raise wrong(f"{key} is {value!r}; expected a text")
    if not isinstance(cpu, list | None) or not all(isinstance(name, str) for name in cpu or ()):
        raise wrong(f"cpu is {cpu!r}; expected a list of processor features, as ['avx2']")
    if module is None and library is None:
        raise wrong("names neither a module nor a library; expected at least one")
    if library is not None and Path(library).name != library:
        raise wrong(f"library is '{library}'; expected a base name: 'x' for libx.so in the folder")
    if module is None:
        return Manifest(folder, None, library, tuple(cpu or ()))
    source = resolved(folder / module)
    if not source.is_relative_to(resolved(folder)):
        raise wrong(f"module '{module}' is outside the folder")
    if source.suffix != ".py" or not is_file(source):
        raise wrong(f"module '{module}' is no .py file in the folder")
    return Manifest(folder, source, library, tuple(cpu or ()))
