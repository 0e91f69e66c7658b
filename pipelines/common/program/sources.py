"""What code and data a graph was made from, and whether any of it is another now.

Every loaded module counts, wherever it lies, and every file that was read while one was imported
or while the graph was made. What does not count one by one is Python, named by its version, and
the libraries that graphs are made with, named by theirs. Plugins that have no part in the graph
do not count at all, see `pipelines.common.bystanders`.
"""

from __future__ import annotations

import functools
import importlib.metadata
import os
import stat
import sys
from collections.abc import Collection, Iterable, Mapping
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType

from pipelines.common import opened
from pipelines.common.cache import Cache
from pipelines.common.deferred import is_waiting
from pipelines.common.dependencies import version
from pipelines.common.importing import PREFIX

LIBRARIES = {
    "torch": "torch",
    "torchgen": "torch",
    "functorch": "torch",
    "onnx": "onnx",
    "onnx_ir": "onnx_ir",
    "onnxscript": "onnxscript",
    "numpy": "numpy",
    "ml_dtypes": "ml_dtypes",
    "sympy": "sympy",
    "mpmath": "mpmath",
    "networkx": "networkx",
    "gguf": "gguf",
    "google": "protobuf",
}
"""Packages that are named by the version of their distribution."""

_UNCOUNTED = frozenset((*sys.stdlib_module_names, "__main__", "__mp_main__"))
"""What comes with Python, and the program that was started: the driver's, or a user's own."""

Sources = Mapping[str, Mapping[str, str]]
"""``files`` with their digests by path, and ``places`` of top-level modules by name."""


@functools.cache
def versions() -> dict[str, str]:
    """Versions of the libraries' distributions, by name; those that are not installed are left out.

    They belong into the key of whatever keeps `Sources`.
    """
    names = dict.fromkeys(LIBRARIES.values())
    return {name: found for name in names if (found := version(name))}


def sources(cache: Cache, left_out: Collection[str] = ()) -> Sources:
    """Whatever has been loaded and read in this process, as it is on the disk.

    Args:
        cache: Where digests are kept; its own files do not count.
        left_out: Names of modules that do not count, nor what was read for their import alone.
    """
    files, tops = _counted(cache, left_out)
    places = {top: where for top in sorted(tops) if (where := place(top))}
    return {"files": {path: file_digest(path, cache) for path in sorted(files)}, "places": places}


def _counted(cache: Cache, left_out: Collection[str]) -> tuple[set[str], set[str]]:
    """Paths of the files that count, and names of the top-level modules; see `sources`."""
    libraries = _library_folders()
    files, tops = set(), set()
    for name, module in list(sys.modules.items()):
        top = name.partition(".")[0]
        uncounted = top in _UNCOUNTED or name in left_out or is_waiting(name)
        path = None if uncounted else _file(module, libraries.get(top))
        if path is None:
            continue
        files.add(path)
        if not top.startswith(PREFIX):  # which says the place itself
            tops.add(top)
    own = (f"{cache.root}{os.sep}", *libraries.values())
    for path, modules in opened.files().items():
        readers = {name.partition(".")[0] for name in modules if name not in left_out}
        if readers - _UNCOUNTED - libraries.keys() and not path.startswith(own):
            files.add(path)
    return files, tops


def without(recorded: Sources, left_out: Collection[str], cache: Cache) -> Sources:
    """Sources but for those that are of some modules alone.

    Args:
        recorded: What was recorded before it was known that these have no part.
        left_out: Names of the modules.
        cache: Where digests are kept.
    """
    if not left_out:
        return recorded
    others, everything = _counted(cache, left_out), _counted(cache, ())
    return {
        kind: {
            name: value
            for name, value in recorded[kind].items()
            if name in counted or name not in all_there
        }
        for kind, counted, all_there in zip(("files", "places"), others, everything, strict=True)
    }


def together(*parts: Sources) -> Sources:
    """The sources of what was made of several things."""
    return {
        kind: {name: value for part in parts for name, value in part[kind].items()}
        for kind in ("files", "places")
    }


def changed(recorded: Sources, cache: Cache) -> str | None:
    """What is another than it was recorded; None if nothing is.

    Raises:
        KeyError: They are no sources; `TypeError` and `AttributeError` likewise.
    """
    for top, where in recorded["places"].items():
        if place(top) not in ("", where):  # what is not found now is not used now
            return f"module {top}"
    for path, digest in recorded["files"].items():
        if file_digest(path, cache) != digest:
            return path
    return None


def without_file(modules: Iterable[str]) -> str | None:
    """One of some modules whose changes would not show, as those typed in; None if all would."""
    for name in modules:
        if name.partition(".")[0] in sys.stdlib_module_names:
            continue
        if name in _UNCOUNTED or _file(sys.modules.get(name)) is None:
            return name
    return None


def place(top: str) -> str:
    """Where a top-level module would be imported from; empty where none would be found by name.

    What is in `sys.modules` does not count: in the next process it need not have been imported. Nor
    do modules beside a program, which are its own: another one may have others of the same names.
    """
    beside = PathFinder.find_spec(top, sys.path[:1])
    if beside is not None and beside.origin and top != "pipelines":
        return ""
    for finder in sys.meta_path:
        try:
            spec = finder.find_spec(top, None)
        except ImportError:  # one that forbids it
            return ""
        if spec is not None:
            return spec.origin or str(next(iter(spec.submodule_search_locations or ()), ""))
    return ""


def _file(module: ModuleType | None, library: str | None = None) -> str | None:
    """The file that a module was loaded from: its own, or the archive that it is in.

    Args:
        module: The module.
        library: The folder whose modules are left out.
    """
    name = getattr(module, "__file__", None)
    if not isinstance(name, str) or (library is not None and name.startswith(library)):
        return None
    if name.startswith(os.sep) and os.path.lexists(name):
        return name
    try:
        path = Path(name).absolute()
    except OSError:  # there is no working directory, and so no file at a relative path
        return None
    if os.path.lexists(path):
        return str(path)
    if archive := next((parent for parent in path.parents if parent.is_file()), None):
        return str(archive)
    # It is gone; or there never was one, where a library calls a module it has made after itself.
    return name if name.startswith(os.sep) else None


def _library_folders() -> dict[str, str]:
    """The folder of each library's package, with a separator at its end."""
    folders = {}
    for package, name in LIBRARIES.items():
        if name in versions():
            place = importlib.metadata.distribution(name).locate_file(package)
            folders[package] = f"{place}{os.sep}"
    return folders


def file_digest(path: str, cache: Cache) -> str:
    """Digest of a file's content; empty if there is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe would wait for a writer
    except OSError:
        return ""
    try:
        is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
        return cache.digests.of(descriptor) if is_file else ""
    except OSError:
        return ""
    finally:
        os.close(descriptor)
