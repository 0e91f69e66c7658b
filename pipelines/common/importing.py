"""Imports Python files from paths: plugins, and the modules of op packages."""

from __future__ import annotations

import hashlib
import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

from pipelines.common import opened
from pipelines.common.files import is_file, is_folder

PREFIX = "run_pipeline_plugin_"
"""What the names of modules that were imported from a path begin with."""


def module_name(path: Path) -> str:
    """The name that a file or package folder is imported under."""
    stem = re.sub(r"\W", "_", path.stem)
    digest = hashlib.sha256(str(path).encode()).hexdigest()[:8]
    return f"{PREFIX}{stem}_{digest}"


def import_from(path: Path, *, package: Path | None = None) -> ModuleType:
    """Imports a file, or a package folder with an `__init__.py`, under a name of its own.

    The name is made from the path, so that two files that are called alike do not collide and what
    they define can be found again through `sys.modules`.

    Args:
        path: The file or the package folder.
        package: For a file, the folder whose other modules it may import relatively.

    Raises:
        ImportError: It is neither. Whatever the module raises comes through.
    """
    name = module_name(path)
    if name in sys.modules:
        return sys.modules[name]
    folder = path if is_folder(path) else package
    spec = importlib.util.spec_from_file_location(
        name,
        path / "__init__.py" if is_folder(path) else path,
        submodule_search_locations=None if folder is None else [str(folder)],
    )
    # A named pipe would be waited for, and a device read without end.
    if spec is None or spec.loader is None or not is_file(Path(spec.origin or "")):
        raise ImportError("expected a .py file or a folder with an __init__.py")
    opened.watch()
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
