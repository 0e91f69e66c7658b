"""Which plugins the environment names, for those who name none themselves."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Final

from pipelines.common.errors import UsageError
from pipelines.common.files import typed_path
from pipelines.common.registry.registry import Registry

PLUGIN_PATHS: Final = "RUN_PIPELINE_PLUGIN_PATH"
"""The variable of the environment that names plugins, and folders of them."""

LEFT_OUT: Final = "RUN_PIPELINE_NO_PLUGIN"
"""The one that names those that are left out."""


def discovered(
    plugin_paths: Sequence[Path], left_out: Collection[str], *, strict: bool
) -> Registry:
    """The registry of all plugins, see `Registry.discover`.

    Args:
        plugin_paths: Plugins, and folders of them; without any, those that the environment names.
        left_out: Names of plugins that are not to be imported; likewise.
        strict: See `Registry.discover`.

    Raises:
        UsageError: A path does not exist, or there is no plugin of a name.
        PluginError: Two plugins claim one name, when strict.
    """
    return Registry.discover(
        plugin_paths or _plugin_paths(), left_out=left_out or [*_listed(LEFT_OUT)], strict=strict
    )


def _listed(variable: str) -> Iterable[str]:
    """What the environment names between colons, as in PATH."""
    # Two colons, or one at an end, come of a variable that was not set; they name nothing.
    return filter(None, os.environ.get(variable, "").split(os.pathsep))


def _plugin_paths() -> list[Path]:
    """The plugins that the environment names."""
    try:
        return [typed_path(text) for text in _listed(PLUGIN_PATHS)]
    except ValueError as error:
        raise UsageError(f"{PLUGIN_PATHS} {error}") from error
