"""The op packages that an exported graph was made with, and has to run with."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pipelines.common.errors import OpPackageError, quoted
from pipelines.common.export.manifest import Manifest
from pipelines.common.op_packages import NATIVE, NATIVE_TARGET
from pipelines.common.op_packages.manifest import LIBRARY_SUFFIXES, read_manifest
from pipelines.common.program.package import LoadedPackage
from pipelines.common.text_generation import Lookup, ModelOptions

_MADE_HERE = ("__pycache__", "build")
"""Folders whose content is made of the package's own files."""


def package_digest(path: Path) -> str:
    """A digest of an op package's files.

    What is compiled of them is left out, since it differs from machine to machine; a package that
    is a library and nothing else is that library.

    Raises:
        OpPackageError: There is none, or a file cannot be read.
    """
    read_manifest(path)
    digest = hashlib.blake2b(digest_size=32)
    try:
        for file in _files(path) if path.is_dir() else [path]:
            content = hashlib.blake2b(file.read_bytes(), digest_size=32).hexdigest()
            digest.update(f"{file.relative_to(path).as_posix()}\0{content}\n".encode())
    except OSError as error:
        raise OpPackageError(f"op package {path} cannot be read: {error.strerror}") from error
    return digest.hexdigest()


def load_packages(
    folder: Path, manifest: Manifest, options: ModelOptions, registry: Lookup
) -> tuple[LoadedPackage, ...]:
    """The op packages of an exported folder, among those that the user named or are registered.

    The folder says which, by name and digest, and not where to look. Nothing is loaded before it
    is known to be what the graph was made with.

    Args:
        folder: The folder, for messages.
        manifest: What it says of itself.
        options: What the user asked for.
        registry: Has the registered ones.

    Raises:
        OpPackageError: One is not here, cannot be used, or has changed; or the user named one that
            the graph was made without.
    """
    typed = {package.name: package for package in registry.packages.typed_by(options)}
    for name in typed.keys() - manifest.op_packages.keys():
        raise OpPackageError(
            f"{folder} was exported without op package '{name}'; leave it out, or export again with"
            " it"
        )
    if NATIVE in manifest.op_packages and not options.native_ops:
        raise OpPackageError(
            f"{folder} was exported with op package '{NATIVE}'; leave out `native_ops=False`, or"
            " export again without it"
        )
    found = []
    for name, digest in manifest.op_packages.items():
        package = typed.get(name) or registry.packages.registered(name)
        if package is None:
            raise OpPackageError(
                f"{folder} was exported with op package {quoted(name)}, and none of that name is"
                " registered; name its path with `custom_ops`"
            )
        if package_digest(package.path) != digest:
            raise OpPackageError(
                f"op package '{name}' ({package.path}) is not the one that {folder} was exported"
                " with; export the model again"
            )
        found.append(package)
    try:
        return tuple(registry.packages.load(package, options.target) for package in found)
    except OpPackageError as error:
        raise OpPackageError(f"{folder} was exported with an op package: {error}") from error


def lacks_native(manifest: Manifest, options: ModelOptions, registry: Lookup) -> bool:
    """Whether a graph does without the project's own kernels, where they are here and wanted."""
    native = registry.packages.registered(NATIVE)
    if native is None or NATIVE in manifest.op_packages:
        return False
    if manifest.target != NATIVE_TARGET or not options.native_ops:
        return False
    try:
        return read_manifest(native.path).find_library() is not None
    except OpPackageError:  # they are not here
        return False


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
