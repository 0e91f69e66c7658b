"""A record with the plugin that brought it: what it stands for, and whether that can be had."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pipelines.common import dependencies
from pipelines.common.errors import OpPackageError, PluginError, UsageError, one_line
from pipelines.common.registry.hookspecs import Lazy, OpPackageRecord, Record, TargetRecord
from pipelines.common.registry.plugins import Plugin

F = TypeVar("F", bound=Callable[..., object])
R = TypeVar("R", bound=Record)


@dataclass(frozen=True)
class Entry(Generic[R]):
    """A record with the plugin that brought it."""

    record: R
    plugin: Plugin

    def missing_modules(self) -> tuple[str, ...]:
        """The modules that the record requires and that cannot be imported; imports none."""
        required = self.record.requires if isinstance(self.record, TargetRecord) else ()
        return tuple(name for name in required if not _importable(name))

    def wrong_modules(self) -> dependencies.Problem | None:
        """What is wrong with the modules that the record requires, missing ones first."""
        if missing := self.missing_modules():
            return dependencies.missing(missing)
        required = self.record.requires if isinstance(self.record, TargetRecord) else ()
        return next(filter(None, map(dependencies.problem, required)), None)

    def state(self) -> str:
        """Why it cannot be used, as far as a look tells; empty if nothing speaks against it."""
        if missing := self.missing_modules():
            return f"unavailable: needs {', '.join(missing)}"
        if not isinstance(self.record, OpPackageRecord):
            return ""
        from pipelines.common.op_packages.manifest import read_manifest

        try:
            manifest = read_manifest(self.record.path)
        except OpPackageError as error:
            return f"unavailable: {error}"
        built = manifest.library is None or manifest.find_library() is not None
        return "" if built else "library not built"

    def outdated(self) -> str:
        """What is to be said of a library that is not what its sources make; empty otherwise."""
        if not isinstance(self.record, OpPackageRecord):
            return ""
        from pipelines.common.op_packages.freshness import outdated
        from pipelines.common.op_packages.manifest import read_manifest

        try:
            why = outdated(read_manifest(self.record.path))
        except OpPackageError:  # which `state` tells
            return ""
        return f"library {why}" if why else ""


def _importable(name: str) -> bool:
    """Whether there is a module of that name; of one in a package the package is imported."""
    try:
        return importlib.util.find_spec(name) is not None
    # Its package is not there, the name is none, or the package raises whatever it likes.
    except (Exception, SystemExit):  # noqa: BLE001
        return False


def unknown_name(kind: str, name: str, names: Iterable[str]) -> UsageError:
    """The error for a name that nothing has: the nearest one and all that exist."""
    names = sorted(names)
    near = difflib.get_close_matches(name.lower(), names, n=1)
    hint = f", did you mean '{near[0]}'?" if near else "."
    known = f"There are: {', '.join(names)}" if names else "There is none"
    return UsageError(f"unknown {kind} '{name}'{hint} {known}")


def lookup(
    kind: str, name: str, entries: Mapping[str, Entry[R]], disabled: Mapping[str, str]
) -> Entry[R]:
    """The entry of that name.

    Args:
        kind: What it is, for messages.
        name: The name.
        entries: All that there are.
        disabled: What is to be said of names that nobody has because several claim them.

    Raises:
        UsageError: Nothing has it.
        PluginError: Several claim it.
    """
    if name in disabled:
        raise PluginError(disabled[name])
    if name not in entries:
        raise unknown_name(kind, name, entries)
    return entries[name]


def function(lazy: Lazy[F], entry: Entry[Any]) -> F:
    """What a record's field stands for, imported if it is a name.

    Raises:
        PluginError: There is no such function.
        DependencyError: What it needs of the project's own dependencies will not do.
    """
    if not isinstance(lazy, str):
        return lazy
    module, _, attribute = lazy.partition(":")
    try:
        imported = importlib.import_module(module)
    except ImportError as error:
        if explanation := dependencies.explained(error):
            raise explanation from error
        if entry.plugin.built_in:  # no stranger's fault
            raise
        raise PluginError(
            f"{entry.plugin}: cannot load '{entry.record.name}': {one_line(error)}"
        ) from error
    found: F | None = getattr(imported, attribute, None)
    if found is None:
        raise PluginError(f"{entry.plugin}: '{lazy}' of '{entry.record.name}' does not exist")
    return found
