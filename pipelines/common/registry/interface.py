"""What a plugin's module has to be: made for this driver, with hooks that there are."""

from __future__ import annotations

import re
from collections.abc import Collection
from difflib import get_close_matches
from inspect import isfunction
from pathlib import Path
from types import ModuleType

from pipelines.common.errors import PluginError
from pipelines.common.registry.hookspecs import API_VERSION, PROJECT

DECLARATION = "PIPELINES_API"
"""The name under which a plugin's module says which `API_VERSION` it was made for."""

_DECLARED = re.compile(rf"^{DECLARATION}\b[^=\n]*=\s*(\d+)\s*(?:#.*)?$", re.MULTILINE)


def check_version(declared: object) -> None:
    """Makes sure that a plugin was made for this driver.

    Args:
        declared: What its module declares; None if it declares nothing.

    Raises:
        PluginError: It was made for another version, or declares none.
    """
    if declared is None or (type(declared) is int and declared == API_VERSION):
        return
    if type(declared) is not int:
        raise PluginError(
            f"its {DECLARATION} is {declared!r}; expected a whole number, which is"
            f" {API_VERSION} for this driver"
        )
    newer = declared > API_VERSION
    advice = "update the driver, or install an older" if newer else "install a newer"
    raise PluginError(
        f"it was made for version {declared} of the plugin interface, and this driver has version"
        f" {API_VERSION}; {advice} version of the plugin"
    )


def declared_in(source: Path | None) -> int | None:
    """What a module that could not be imported declares; None if it declares nothing.

    What was made for another version fails for that reason, whatever the error says.
    """
    try:
        text = "" if source is None else source.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    found = _DECLARED.search(text)
    return None if found is None else int(found[1])


def check_hooks(module: ModuleType, hooks: Collection[str]) -> None:
    """Makes sure that whatever a module means to be a hook is one.

    Args:
        module: The plugin's module.
        hooks: Names of all that there are.

    Raises:
        PluginError: A function is marked and called like no hook, or called like one and not
            marked; or there is none.
    """
    functions = {name: value for name, value in vars(module).items() if isfunction(value)}
    marked = {name for name, value in functions.items() if hasattr(value, f"{PROJECT}_impl")}
    for name in sorted(marked - set(hooks)):
        near = get_close_matches(name, hooks, n=1)
        hint = f", did you mean '{near[0]}'?" if near else "."
        raise PluginError(f"there is no hook '{name}'{hint} There are: {', '.join(hooks)}")
    for name in sorted(functions.keys() & set(hooks) - marked):
        raise PluginError(f"its function '{name}' is no hook without @hookimpl; add that")
    if not marked:
        near = [name for name in functions if get_close_matches(name, hooks, n=1)]
        hint = f"; did you mean '{near[0]}' to be one?" if near else ""
        raise PluginError(f"has none of the hooks {', '.join(hooks)}; each needs @hookimpl{hint}")
