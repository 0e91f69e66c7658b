"""What modules hold, to tell whether loading a plugin has changed something of others."""

from __future__ import annotations

import operator
import sys
from collections.abc import Collection, Mapping
from types import FunctionType, ModuleType
from typing import Final, TypeAlias

from pipelines.common.importing import PREFIX

DRIVER: Final = "pipelines"
"""The driver's own top-level package."""

State: TypeAlias = Mapping[str, list[object]]
"""Values by the module, or class of a module, that holds them."""

_SPECIAL: Final = frozenset(("__init__", "__call__", "__getattr__", "__getattribute__"))
"""Names with underscores that are replaced to change what others do."""

_COLLECTIONS: Final = (dict, list, set)


def state_of(packages: Collection[str]) -> State:
    """What the modules of the driver and of plugins hold, but for modules.

    Args:
        packages: The top-level packages of plugins.
    """
    tops = {DRIVER, *packages}
    beginnings = (*tops, PREFIX)  # few of all loaded modules have one of them
    state = {}
    for name, module in list(sys.modules.items()):
        if not name.startswith(beginnings) or not isinstance(module, ModuleType):
            continue
        top = name.partition(".")[0]
        if not (top in tops or top.startswith(PREFIX)):
            continue
        state[name] = _held(vars(module))
        for value in list(vars(module).values()):
            if isinstance(value, type) and value.__module__ == name:
                state[f"{name}:{value.__qualname__}"] = _held(vars(value))
    return state


def is_changed(before: State, after: State, packages: Collection[str]) -> bool:
    """Whether loading plugins has changed what is not their own.

    Args:
        before: What was held before.
        after: And after; of what was not loaded before it counts what plugins have put there.
        packages: The top-level packages of plugins.
    """
    return not all(_same(held, after.get(place, [])) for place, held in before.items()) or any(
        _is_of_plugin(value, packages)
        for place in after.keys() - before.keys()
        if place.partition(".")[0] == DRIVER
        for value in after[place]
    )


def _held(namespace: Mapping[str, object]) -> list[object]:
    """The values of a namespace, and those that its collections hold."""
    held = [
        value
        for name, value in list(namespace.items())
        if (name[:2] != "__" or name in _SPECIAL) and type(value) is not ModuleType
    ]
    for value in held[:]:
        if isinstance(value, _COLLECTIONS):
            held += value.values() if isinstance(value, dict) else value
    return held


def _same(before: list[object], after: list[object]) -> bool:
    return len(before) == len(after) and all(map(operator.is_, before, after))


def _is_of_plugin(value: object, packages: Collection[str], *, inside: bool = True) -> bool:
    """Whether something was defined by a plugin, or has such a thing in a field."""
    defined = value if isinstance(value, FunctionType | type) else type(value)
    top = str(defined.__module__).partition(".")[0]
    if top.startswith(PREFIX) or (top != DRIVER and top in packages):
        return True
    if not inside or top != DRIVER or defined is value:
        return False
    fields = getattr(value, "__dict__", {}).values()
    return any(_is_of_plugin(field, packages, inside=False) for field in fields)
