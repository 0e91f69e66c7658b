"""The packages that this project runs on: which versions, and what to say when they are not here.

Nothing is imported to find out: what is installed is read from the packages' metadata.
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import os
import platform
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pipelines.common.errors import DependencyError


@dataclass(frozen=True)
class Dependency:
    """What has to be installed for a module.

    Attributes:
        names: The distributions that have it; the first is the one to install.
        first: The first version that will do.
        before: The first version that will not do any more, if there is one.
    """

    names: tuple[str, ...]
    first: str
    before: str = ""

    @property
    def install(self) -> str:
        """The command that installs it."""
        return self.install_as(self.names[0])

    def install_as(self, name: str) -> str:
        """The command that installs one of the distributions that have it."""
        bound = f",<{self.before}" if self.before else ""
        return f"pip install '{name}>={self.first}{bound}'"

    def takes(self, version: str) -> bool:
        """Whether a version will do."""
        found = _numbers(version)
        return _numbers(self.first) <= found and not (
            self.before and found >= _numbers(self.before)
        )


# The GPU build runs on the CPU as well; it exists for x86-64 only.
_GPU_BUILD = sys.platform != "darwin" and platform.machine() in ("x86_64", "AMD64")
_ONNXRUNTIME = ("onnxruntime-gpu", "onnxruntime") if _GPU_BUILD else ("onnxruntime",)

DEPENDENCIES: Final[Mapping[str, Dependency]] = {
    "torch": Dependency(("torch",), "2.13"),
    "numpy": Dependency(("numpy",), "2.0"),
    "onnx": Dependency(("onnx",), "1.20"),
    "onnx_ir": Dependency(("onnx-ir",), "1.0"),
    "ml_dtypes": Dependency(("ml-dtypes",), "0.5"),
    "onnxscript": Dependency(("onnxscript",), "0.7.1", "0.8"),
    "onnxruntime": Dependency(_ONNXRUNTIME, "1.31", "1.32"),
    "gguf": Dependency(("gguf",), "0.19"),
    "tokenizers": Dependency(("tokenizers",), "0.22"),
    "msgspec": Dependency(("msgspec",), "0.19"),
    "typer": Dependency(("typer",), "0.28", "0.29"),
    "rich": Dependency(("rich",), "13"),
    "pluggy": Dependency(("pluggy",), "1.5"),
    "jinja2": Dependency(("jinja2",), "3.1.6"),
    "prompt_toolkit": Dependency(("prompt-toolkit",), "3.0.43"),
}
"""By module, as `pyproject.toml` has them."""


@dataclass(frozen=True)
class Problem:
    """What is wrong with an installation.

    Attributes:
        reason: What it is.
        fix: A command that mends it.
    """

    reason: str
    fix: str

    def __str__(self) -> str:
        return f"{self.reason}; {self.fix}"


def problem(module: str) -> Problem | None:
    """What is wrong with a module's distributions; None where nothing is.

    That a module is not there at all is told by whoever looks for it, see `missing`.
    """
    dependency = DEPENDENCIES.get(module)
    if dependency is None:
        return None
    found = _installed(dependency)
    if len(set(found.values())) > 1:
        # They have one folder, where the parts of either may be.
        both = " and ".join(f"{name} {version}" for name, version in found.items())
        return Problem(
            f"{both} are both installed, into one folder",
            f"pip uninstall --yes {' '.join(found)} && {dependency.install}",
        )
    for name, version in found.items():
        if not dependency.takes(version):
            upper = f" to below {dependency.before}" if dependency.before else " or newer"
            return Problem(
                f"{name} {version} is installed, expected {dependency.first}{upper}",
                dependency.install_as(name),
            )
    if folder := _hollow(module):
        first = f"pip uninstall --yes {' '.join(found)} && " if found else ""
        return Problem(
            f"of {module} there is no more than a folder ({folder}), as another package's"
            " uninstallation leaves it",
            f"{first}{dependency.install_as(next(iter(found), dependency.names[0]))}",
        )
    return None


def missing(modules: Iterable[str]) -> Problem:
    """What is to be said of modules that are not there."""
    names = list(modules)
    fixes = [
        DEPENDENCIES[name].install if name in DEPENDENCIES else f"pip install {name}"
        for name in names
    ]
    return Problem(f"{' '.join(names)} is not installed", " && ".join(fixes))


def check(*modules: str) -> None:
    """Makes sure that modules have versions that will do; to be called before they are imported.

    Raises:
        DependencyError: One has not.
    """
    for module in modules:
        if found := problem(module):
            raise DependencyError(str(found))


def explained(error: ImportError) -> DependencyError | None:
    """The error that a failed import of a dependency comes to; None for all other imports."""
    module = (error.name or "").partition(".")[0].replace("-", "_")
    if module not in DEPENDENCIES:
        return None
    if isinstance(error, ModuleNotFoundError) and not _installed(DEPENDENCIES[module]):
        return DependencyError(f"{missing([module])}")
    found = problem(module) or Problem(
        f"{module} cannot be imported: {' '.join(str(error).split())}",
        DEPENDENCIES[module].install.replace("install", "install --force-reinstall", 1),
    )
    return DependencyError(str(found))


def installed() -> dict[str, str | None]:
    """The version of each dependency, by module; None for one that is not installed."""
    found = {module: _installed(dependency) for module, dependency in DEPENDENCIES.items()}
    return {module: next(iter(versions.values()), None) for module, versions in found.items()}


def version(name: str) -> str | None:
    """The version of a distribution; None for one that is not installed.

    It is in the name of the folder with the metadata, which is ``NAME-VERSION.dist-info``
    (packaging.python.org, "Recording installed projects"). To read the metadata itself takes
    milliseconds for each distribution, of which every start asks for a dozen.
    """
    if found := _by_folder(tuple(sys.path)).get(re.sub(r"[-_.]+", "_", name).lower()):
        return found
    try:
        return importlib.metadata.version(name)  # of an egg, or in an archive
    except importlib.metadata.PackageNotFoundError:
        return None


@functools.cache
def _by_folder(places: Sequence[str]) -> Mapping[str, str]:
    """Versions of the distributions in folders, by names in lower case with underscores."""
    found: dict[str, str] = {}
    for place in places:
        try:
            names = os.listdir(place or ".")  # noqa: PTH208 - a Path for each would take its time
        except OSError:
            continue  # an archive, or nothing
        for name in names:
            if name.endswith(".dist-info"):
                distribution, _, version = name.removesuffix(".dist-info").partition("-")
                found.setdefault(distribution.replace(".", "_").lower(), version)
    return found


def _installed(dependency: Dependency) -> dict[str, str]:
    """Versions of the distributions that are there."""
    return {name: found for name in dependency.names if (found := version(name))}


def _hollow(module: str) -> str | None:
    """A folder that Python takes for a module, though nothing of the module is in it."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):  # it is not here at all
        return None
    if spec is None or spec.origin is not None:
        return None
    return next(iter(spec.submodule_search_locations or ()), None)


def _numbers(version: str) -> tuple[int, ...]:
    """The numbers that a version begins with; what follows, as of ``2.13.0+cpu``, is left out."""
    match = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, match[0].split("."))) if match else ()
