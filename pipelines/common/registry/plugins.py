"""Where plugins are found; none is imported to find it.

They come from four places: the built-ins, the project's own `plugins` folder, the entry points of
installed distributions, and the paths that the user names. Code is loaded from nowhere else.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from functools import cache, partial
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from pathlib import Path
from types import ModuleType

from pipelines.common import opened
from pipelines.common.errors import UsageError
from pipelines.common.files import exists, is_file, resolved
from pipelines.common.importing import import_from, module_name
from pipelines.common.registry import builtins
from pipelines.common.shipped import shipped

BUILT_IN = "built-in"
"""The provenance of what ships with the project."""

ENTRY_POINT_GROUP = "run_pipeline.plugins"


class Level(IntEnum):
    """How near a plugin is to the user: of two with one name, the nearer one has it."""

    BUILT_IN = 0
    SHIPPED = 1
    INSTALLED = 2
    NAMED = 3


@dataclass(frozen=True)
class FoundPlugin:
    """A plugin that was found, and is not imported.

    Attributes:
        name: The plugin's own name: of its entry point, file or folder.
        provenance: ``built-in``, ``entry point (distribution version)``, or a path.
        level: Which of two with one name has it.
        load: Imports its module; whatever that raises comes through.
        package: The top-level package of its module.
        source: The file of its module; None where that cannot be told.
    """

    name: str
    provenance: str
    level: Level
    load: Callable[[], ModuleType]
    package: str
    source: Callable[[], Path | None] = lambda: None

    def __str__(self) -> str:
        return f"plugin '{self.name}' ({self.provenance})"


@dataclass(frozen=True)
class Plugin:
    """A plugin that was imported, and that records come from.

    Attributes:
        found: Where it is.
        module: The module that holds its hooks; None if it was skipped.
        import_s: Seconds that importing it took.
        problem: Why it was skipped; empty if it was not.
    """

    found: FoundPlugin
    module: ModuleType | None
    import_s: float = 0.0
    problem: str = ""

    @property
    def name(self) -> str:
        """See `FoundPlugin`."""
        return self.found.name

    @property
    def provenance(self) -> str:
        """See `FoundPlugin`."""
        return self.found.provenance

    @property
    def built_in(self) -> bool:
        """Whether it is the project itself, whose failures are bugs."""
        return self.found.level is Level.BUILT_IN

    def __str__(self) -> str:
        return str(self.found)


def find_plugins(named: Iterable[Path] = ()) -> Iterator[FoundPlugin]:
    """Every plugin that can be found, those of lower levels first; each once.

    Args:
        named: Plugins, and folders of plugins, that the user names.

    Raises:
        UsageError: A path does not exist.
    """
    yield FoundPlugin("builtins", BUILT_IN, Level.BUILT_IN, lambda: builtins, "pipelines")
    paths = dict.fromkeys(shipped_plugins(), Level.SHIPPED)
    paths |= dict.fromkeys(named_plugins(named), Level.NAMED)
    yield from (_at(path, level) for path, level in paths.items() if level is Level.SHIPPED)
    yield from map(_installed, _entry_points(tuple((path, _time(path)) for path in sys.path)))
    yield from (_at(path, level) for path, level in paths.items() if level is Level.NAMED)


def _at(path: Path, level: Level) -> FoundPlugin:
    source = path / "__init__.py" if path.is_dir() else path
    load = partial(import_from, path)
    return FoundPlugin(path.stem, str(path), level, load, module_name(path), lambda: source)


@cache
def _entry_points(_: Sequence[tuple[str, int]]) -> EntryPoints:
    """Those of what is installed in the folders of `sys.path`, each with its last change.

    To read them takes as long as all else of looking for plugins, and a program may look often.
    """
    return entry_points(group=ENTRY_POINT_GROUP)


def _time(folder: str) -> int:
    """When something in a folder was installed or removed, in nanoseconds; 0 if it is not there."""
    try:
        return os.stat(folder or ".").st_mtime_ns  # noqa: PTH116 - on the way of every start
    except OSError:
        return 0


def _installed(entry_point: EntryPoint) -> FoundPlugin:
    distribution = entry_point.dist
    assert distribution is not None
    return FoundPlugin(
        entry_point.name,
        f"entry point ({distribution.name} {distribution.version})",
        Level.INSTALLED,
        partial(_entry_point_module, entry_point),
        entry_point.module.partition(".")[0],
        partial(_entry_point_source, entry_point),
    )


def _entry_point_source(entry_point: EntryPoint) -> Path | None:
    # A package that the module is in is imported for it, and may raise anything, as it has before.
    with suppress(Exception, SystemExit):
        spec = importlib.util.find_spec(entry_point.module)
        if spec is not None and spec.origin is not None:
            return Path(spec.origin)
    return None


def _entry_point_module(entry_point: EntryPoint) -> ModuleType:
    """The module that an entry point names.

    Raises:
        TypeError: It names something else.
    """
    opened.watch()
    module = entry_point.load()
    if not isinstance(module, ModuleType):
        raise TypeError(f"the entry point '{entry_point.value}' is no module")
    return module


def shipped_plugins() -> Iterator[Path]:
    """The plugins of the project's own `plugins` folder."""
    if (folder := shipped("plugins")) is not None:
        yield from _plugins_in(folder)


def named_plugins(paths: Iterable[Path]) -> Iterator[Path]:
    """The plugins that a user names, and those in folders that a user names.

    Raises:
        UsageError: A path leads to none of these.
    """
    for given in paths:
        path = resolved(given)
        if not exists(path):
            raise UsageError(f"no such plugin path: {given}")
        if is_file(path / "__init__.py") or (is_file(path) and path.suffix == ".py"):
            yield path
            continue
        try:
            yield from _plugins_in(path)
        except OSError as error:
            raise UsageError(
                f"cannot use plugin path {given}: {error.strerror}; expected a .py file, a package"
                " folder, or a folder of plugins"
            ) from error


def _plugins_in(folder: Path) -> Sequence[Path]:
    return [
        path
        for path in sorted(folder.iterdir())
        if not path.name.startswith(("_", "."))
        and (path.suffix == ".py" or is_file(path / "__init__.py"))
    ]
