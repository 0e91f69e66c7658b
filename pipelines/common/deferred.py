"""Modules that are executed when they are first looked into, and not when they are imported.

A library may import another one that is large and seldom used. See `importlib.util.LazyLoader`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import LazyLoader
from types import ModuleType
from typing import Final

_deferred: Final[set[str]] = set()
_waiting: Final[set[str]] = set()


def defer(*modules: str) -> None:
    """Has the next import of some modules wait; those that are imported already are left alone.

    Args:
        modules: Their full names. Packages are deferred by themselves: what is in them is executed
            as ever, and the package before.
    """
    _deferred.update(set(modules) - sys.modules.keys())
    if _FINDER not in sys.meta_path:
        sys.meta_path.insert(0, _FINDER)


def is_waiting(module: str) -> bool:
    """Whether a module has been imported and not been executed so far.

    Any look at the module itself would execute it.
    """
    return module in _waiting


class _Finder(MetaPathFinder):
    """Finds modules where they are, until they are imported."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """See `MetaPathFinder.find_spec`."""
        if fullname not in _deferred:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or type(spec.loader) is not SourceFileLoader:
            return None
        spec.loader = LazyLoader(_Loader(fullname, spec.loader.path))
        return spec


class _Loader(SourceFileLoader):
    """Notes what has been asked of it."""

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """See `SourceFileLoader.create_module`."""
        _deferred.discard(spec.name)
        _waiting.add(spec.name)
        return super().create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """See `SourceFileLoader.exec_module`."""
        _waiting.discard(module.__name__)
        super().exec_module(module)


_FINDER: Final = _Finder()
