"""Where the plugins and custom op packages are that ship with the project.

In a checkout `plugins` and `custom_ops` lie beside the package, where people look for them; a wheel
has them within it, so that an installation adds one name to what Python can import.
"""

from __future__ import annotations

import json
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

import pipelines
from pipelines.common.files import is_file, is_folder

_DISTRIBUTION: Final = "pipeline-driver"
_WITHIN: Final = "_shipped"
_COMPILED: Final = "pipeline_driver_compiled"


def shipped(folder: str) -> Path | None:
    """The folder ``plugins`` or ``custom_ops``; None if there is none.

    An installed package has strangers for neighbours: the driver's script tells a checkout.
    """
    package = Path(pipelines.__file__).resolve().parent
    if is_folder(within := package / _WITHIN / folder):
        return within
    beside = package.parent / folder
    return beside if is_file(package.parent / "run_pipeline.py") and is_folder(beside) else None


def compiled(package: Path, file: str) -> Path | None:
    """What was compiled of a shipped op package when the project was installed; None for others.

    An editable installation has it in the environment, and the sources where they are; in a wheel
    it lies among the other files of the package.

    Args:
        package: The op package.
        file: Name of the library's file.
    """
    folder = shipped("custom_ops")
    # A package of a stranger may be called like one that ships with the project.
    if folder is None or package.parent != folder:
        return None
    try:
        installed = distribution(_DISTRIBUTION)
    except PackageNotFoundError:  # run from a checkout
        return None
    # What was compiled of another checkout is of other sources.
    if not _is_of(installed, folder.parent):
        return None
    library = Path(str(installed.locate_file(_COMPILED))) / package.name / file
    return library if is_file(library) else None


def _is_of(installed: Distribution, checkout: Path) -> bool:
    """Whether a distribution was installed from a checkout, which leaves the sources there."""
    try:
        url = urlsplit(json.loads(installed.read_text("direct_url.json") or "{}")["url"])
    except (ValueError, KeyError, TypeError):
        return False
    return url.scheme == "file" and Path(unquote(url.path)).resolve() == checkout.resolve()
