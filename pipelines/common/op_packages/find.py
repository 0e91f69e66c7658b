"""Which op packages may be loaded: registered ones, and those at paths that the user typed.

A name that a file holds is compared with the names of these. It is never taken for a path.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipelines.common.errors import OpPackageError
from pipelines.common.files import resolved


@dataclass(frozen=True)
class FoundPackage:
    """An op package that may be loaded; made by the functions of this module alone.

    Attributes:
        name: Its registered name; of another one the name of its folder or file, without ending.
        path: The folder or file.
        typed: Whether the user named it, by name or by path.
    """

    name: str
    path: Path
    typed: bool


def registered(paths: Mapping[str, Path]) -> tuple[FoundPackage, ...]:
    """The op packages that are registered, by their names."""
    return tuple(FoundPackage(name, resolved(path), typed=False) for name, path in paths.items())


def typed(references: Iterable[str], known: Collection[FoundPackage]) -> tuple[FoundPackage, ...]:
    """The op packages that the user means, each once.

    Args:
        references: Registered names and paths, as they were typed.
        known: The registered ones.

    Raises:
        OpPackageError: Two have one name.
    """
    paths = {package.name: package.path for package in known}
    by_path: dict[Path, FoundPackage] = {}
    for reference in references:
        path = paths.get(reference) or resolved(Path(reference))
        name = reference if reference in paths else path.stem
        by_path.setdefault(path, FoundPackage(name, path, typed=True))
    check_names(by_path.values())
    return tuple(by_path.values())


def check_names(packages: Iterable[FoundPackage]) -> None:
    """Makes sure that each package has a name of its own.

    Raises:
        OpPackageError: Two have one name.
    """
    by_name: dict[str, FoundPackage] = {}
    for package in packages:
        other = by_name.setdefault(package.name, package)
        if other is not package:
            raise OpPackageError(
                f"two op packages are called '{package.name}': {other.path} and {package.path};"
                " rename one of them"
            )
