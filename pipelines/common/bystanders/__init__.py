"""Modules of plugins that are loaded and have no part in what is run.

Every start of the driver imports all plugins, to learn what they bring. What is made for a model
depends on those that are used, and on whatever they import, be it inside of functions; an edit of
another one says nothing. A module counts as a bystander only where nothing speaks against it: it
was loaded for a plugin that was not asked for anything since and that has changed nothing in
modules of others, and nothing that counts names it.
"""

from __future__ import annotations

import functools
import importlib
import site
import sys
import sysconfig
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pipelines.common.bystanders.code import changes_others, named_by, parents
from pipelines.common.bystanders.state import DRIVER, is_changed, state_of
from pipelines.common.dependencies import DEPENDENCIES
from pipelines.common.importing import PREFIX

_DRIVERS: Final = frozenset((DRIVER, *DEPENDENCIES))
"""Top-level packages that the driver's own code imports, which is not searched for names."""

_UNSEARCHED: Final = frozenset((DRIVER, "__main__", "__mp_main__", *sys.stdlib_module_names))
"""Top-level modules that import plugins by way of the registry alone."""


@dataclass
class _Ledger:
    """What is known in this process.

    Attributes:
        owners: For each module that was loaded for plugins, the first of them.
        packages: For each plugin, the top-level package that is its own.
        loading: The plugins that code ran of since it is watched what they change.
        at_work: The plugins that are used, or have changed something of others.
        known: What is loaded as far as that has been looked at, since plugins are watched.
        before: What had been loaded before the first plugin; that knows of none.
    """

    owners: dict[str, str] = field(default_factory=dict)
    packages: dict[str, str] = field(default_factory=dict)
    loading: set[str] = field(default_factory=set)
    at_work: set[str] = field(default_factory=set)
    known: set[str] = field(default_factory=set)
    before: frozenset[str] | None = None


_ledger = _Ledger()


@contextmanager
def watching() -> Iterator[None]:
    """Wherein plugins are loaded; if that changes what others hold, all of these take part."""
    importlib.import_module(f"{DRIVER}.plugin")  # all do, and the first would be its owner
    if _ledger.before is None:
        _ledger.before = frozenset(sys.modules)
    state = state_of(_ledger.packages.values())
    _ledger.known = set(sys.modules)
    _ledger.loading.clear()
    try:
        yield
    finally:
        packages = _ledger.packages.values()
        if is_changed(state, state_of(packages), packages):
            _ledger.at_work |= _ledger.loading
        _ledger.loading.clear()


@contextmanager
def loading(plugin: str, package: str) -> Iterator[None]:
    """Wherein code of a plugin runs only for the driver to learn what it brings.

    Args:
        plugin: Which one, in words that tell it from others.
        package: The top-level package that is its own.
    """
    _ledger.packages[plugin] = package
    _ledger.loading.add(plugin)
    try:
        yield
    finally:
        # Mostly nothing is new; what is not noted counts, so that no harm is done.
        if len(sys.modules) > len(_ledger.known):
            for name in sys.modules.keys() - _ledger.known:
                _ledger.known.add(name)
                _ledger.owners.setdefault(name, plugin)


def take_part(plugin: str) -> None:
    """Notes that a plugin is used: it and what it has loaded count from now on."""
    _ledger.at_work.add(plugin)


def bystanders(makers: Iterable[str], libraries: Collection[str]) -> frozenset[str]:
    """Names of the loaded modules that have no part.

    Args:
        makers: Names of modules that have, whatever else is known.
        libraries: Top-level packages that import no plugins, for certain.
    """
    changing = _changing()
    apart = {
        name
        for name, owner in _ledger.owners.items()
        if owner not in changing and _may_be_apart(name, owner)
    }
    apart -= set(makers)
    if not apart:
        return frozenset()
    found = [name for name in list(sys.modules) if name not in apart and _may_know(name, libraries)]
    while found:
        name = found.pop()
        reached = parents(name) | named_by(name, apart, own=_is_own(name))
        found += reached & apart
        apart -= reached
    return frozenset(apart)


def _may_be_apart(name: str, owner: str) -> bool:
    """Whether a module could be of interest to its plugin alone."""
    top = name.partition(".")[0]
    if owner in _ledger.at_work or top in sys.stdlib_module_names or top in _DRIVERS:
        return False
    if top.startswith(PREFIX) or top == _ledger.packages[owner]:
        return True
    # What is installed, others import as well, also the libraries that the driver itself runs on.
    file = getattr(sys.modules.get(name), "__file__", None)
    return isinstance(file, str) and not file.startswith(_installed())


def _may_know(name: str, libraries: Collection[str]) -> bool:
    """Whether a module may import what plugins have loaded."""
    top = name.partition(".")[0]
    if top in libraries or top in _UNSEARCHED:
        return False
    assert _ledger.before is not None
    return name not in _ledger.before or _is_own(name)


def _changing() -> set[str]:
    """Plugins that may have changed a module of the driver which they were the first to load.

    Nobody knows how that was before, so their code is asked.
    """
    first = {owner for name, owner in _ledger.owners.items() if name.startswith(f"{DRIVER}.")}
    return {
        owner
        for name, owner in _ledger.owners.items()
        if owner in first and _may_be_apart(name, owner) and changes_others(name)
    }


def _is_own(name: str) -> bool:
    """Whether a module is of a plugin, or of a user who has written it."""
    file = getattr(sys.modules.get(name), "__file__", None)
    installed = isinstance(file, str) and file.startswith(_installed())
    return not installed or name.partition(".")[0] in _ledger.packages.values()


@functools.cache
def _installed() -> tuple[str, ...]:
    """The folders that packages are installed into.

    An environment on top of another one has the folder of that in a ``.pth`` file.
    """
    named = {path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")}
    folders = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    return (*folders | named, *site.getsitepackages(), site.getusersitepackages())
