"""The op packages that an exported graph was made with, and has to run with."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

from pipelines.common.errors import OpPackageError
from pipelines.common.export.manifest import Manifest
from pipelines.common.op_packages import NATIVE
from pipelines.common.op_packages.manifest import LIBRARY_SUFFIXES
from pipelines.common.op_packages.package import LoadedPackage
from pipelines.common.progress import Progress
from pipelines.common.text_generation import Lookup, ModelOptions

_MADE_HERE = ("__pycache__", "build")
"""Folders whose content is made of the package's own files."""


def package_digest(path: Path) -> str:
    """A digest of an op package's files.

    What is compiled of them is left out, since it differs from machine to machine; a package that
    is a library and nothing else is that library.

    Raises:
        OSError: A file cannot be read.
    """
    digest = hashlib.blake2b(digest_size=32)
    for file in _files(path) if path.is_dir() else [path]:
        content = hashlib.blake2b(file.read_bytes(), digest_size=32).hexdigest()
        digest.update(f"{file.relative_to(path).as_posix()}\0{content}\n".encode())
    return digest.hexdigest()


def load_packages(
    folder: Path, manifest: Manifest, options: ModelOptions, registry: Lookup, progress: Progress
) -> tuple[LoadedPackage, ...]:
    """The op packages of an exported folder, among those that the user named or are registered.

    Nothing is loaded from the folder itself.

    Args:
        folder: The folder, for messages.
        manifest: What it says of itself.
        options: What the user asked for.
        registry: Has the registered ones.
        progress: Told of what the user should know.

    Raises:
        OpPackageError: One is not here, cannot be used, or has changed; or the user named one that
            the graph was made without.
    """
    named = {path.stem: path for path in options.custom_ops}
    for name in named.keys() - manifest.op_packages.keys():
        raise OpPackageError(
            f"{folder} was exported without op package '{name}'; leave it out, or export again with"
            " it"
        )
    if not manifest.op_packages:
        return ()
    if NATIVE in manifest.op_packages and not options.native_ops:
        raise OpPackageError(
            f"{folder} was exported with op package '{NATIVE}'; leave out --no-native-ops, or"
            " export again without it"
        )
    wanted = tuple(named.get(name, Path(name)) for name in manifest.op_packages)
    try:
        packages = registry.load_op_packages(
            replace(options, custom_ops=wanted, registered_ops=False), progress
        )
    except OpPackageError as error:
        raise OpPackageError(
            f"{folder} was exported with op package {_listed(manifest)}: {error}; name it with"
            " --custom-ops-path"
        ) from error
    for package in packages:
        if package_digest(package.path) != manifest.op_packages[package.name]:
            raise OpPackageError(
                f"op package '{package.name}' ({package.path}) is not the one that {folder} was"
                " exported with; export the model again"
            )
    return packages


def _files(folder: Path) -> list[Path]:
    """The files of a package, in a fixed order."""
    return sorted(
        file
        for file in folder.rglob("*")
        if file.is_file()
        and file.suffix not in LIBRARY_SUFFIXES
        and not any(
            part in _MADE_HERE or part.startswith(".") for part in file.relative_to(folder).parts
        )
    )


def _listed(manifest: Manifest) -> str:
    return ", ".join(f"'{name}'" for name in manifest.op_packages)
