"""Where plugins are found, and what makes their records sound."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from typing import Any

from pipelines.common import opened
from pipelines.common.errors import UsageError
from pipelines.common.files import exists, is_file, resolved
from pipelines.common.registry.hookspecs import (
    OpPackageRecord,
    Record,
    TargetRecord,
    WeightFormatRecord,
)
from pipelines.common.shipped import shipped

BUILT_IN = "built-in"
"""The provenance of what ships with the project."""

ENTRY_POINT_GROUP = "run_pipeline.plugins"

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
_FUNCTION_NAME = re.compile(r"[\w.]+:\w+")


@dataclass(frozen=True)
class Plugin:
    """Where records come from.

    Attributes:
        name: The plugin's own name: of its entry point, file or folder.
        provenance: ``built-in``, ``entry point (distribution version)``, or a path.
        module: The module that holds its hooks.
    """

    name: str
    provenance: str
    module: ModuleType

    def __str__(self) -> str:
        return f"plugin '{self.name}' ({self.provenance})"


def entry_point_provenance(entry_point: EntryPoint) -> str:
    """See `Plugin.provenance`."""
    distribution = entry_point.dist
    assert distribution is not None
    return f"entry point ({distribution.name} {distribution.version})"


def entry_point_module(entry_point: EntryPoint) -> ModuleType:
    """The module that an entry point names; whatever importing it raises comes through.

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


def check_record(record: Any, hook: str, kind: type[Record]) -> None:
    """Makes sure that whatever is done with a record later can be done.

    Args:
        record: What a plugin has returned.
        hook: The hook that returned it.
        kind: What it has to be.

    Raises:
        TypeError: It is something else, or one of its fields is.
        ValueError: A field is not what its record says of it.
    """
    if not isinstance(record, kind):
        raise TypeError(f"{hook} returned {record!r}; expected {kind.__name__} records")
    if not isinstance(record.name, str) or not _NAME.fullmatch(record.name):
        raise ValueError(f"{hook}: '{record.name}' is no name (a-z, 0-9, '-' and '_')")
    if not isinstance(record.summary, str):
        raise TypeError(f"{hook}: the summary of '{record.name}' is no text")
    if isinstance(record, TargetRecord):
        _check_texts(record.requires, f"{hook}: what '{record.name}' requires")
        if not isinstance(record.preference, int):
            raise TypeError(f"{hook}: the preference of '{record.name}' is no integer")
    if isinstance(record, WeightFormatRecord):
        _check_texts(record.suffixes, f"{hook}: the endings of '{record.name}'")
    if isinstance(record, TargetRecord) and record.name == "auto":
        raise ValueError(f"{hook}: 'auto' stands for the best target; call it otherwise")
    if isinstance(record, OpPackageRecord):
        if not isinstance(record.path, Path):
            raise TypeError(f"{hook}: the path of '{record.name}' is no Path")
        return
    function = record.open if isinstance(record, WeightFormatRecord) else record.load
    if not isinstance(function, str) and not callable(function):
        raise TypeError(f"{hook}: '{record.name}' is given {function!r}; expected a function")
    if isinstance(function, str) and not _FUNCTION_NAME.fullmatch(function):
        raise ValueError(f"{hook}: '{function}' of '{record.name}' is not 'module:function'")


def _check_texts(values: Any, what: str) -> None:
    if not isinstance(values, tuple) or not all(isinstance(value, str) for value in values):
        raise TypeError(f"{what} is {values!r}; expected a tuple of texts")
