"""What an exported folder says of itself: ``manifest.json``."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import stat
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import msgspec

from pipelines.common.chat.template import ChatSettings
from pipelines.common.encodings.requests import REQUESTS
from pipelines.common.errors import ModelFileError, UsageError, quoted
from pipelines.common.files import exists
from pipelines.common.graph.rules import LoweredGraph, LoweredWeight, Taken
from pipelines.common.nn.interface import Interface
from pipelines.common.program.external import ALIGNMENT, Place
from pipelines.common.program.origin import Origin
from pipelines.common.text.folder import TOKENIZER_FILES


class Numbers(Protocol):
    """What the dataclasses of networks' dimensions have in common."""

    @property
    def context_length(self) -> int:
        """Tokens of the longest sequence."""

    @property
    def layers(self) -> int:
        """Number of blocks."""

    def problems(self) -> Iterator[str]:
        """What no network can have."""


C = TypeVar("C", bound=Numbers)

FORMAT: Final = 6
"""Version of the folders that this module reads and writes."""

MANIFEST: Final = "manifest.json"
GRAPH: Final = "graph.onnx"
MODEL: Final = "model.onnx"
WEIGHTS: Final = "weights.bin"
TOKENIZER_SETTINGS: Final = ("tokenizer_config.json", "generation_config.json")

_LARGEST_MANIFEST: Final = 64 << 20
_ELEMENT_TYPES: Final = frozenset(
    {"bool", "float16", "float32", "float64", "bfloat16"}
    | {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}
)


@dataclass(frozen=True)
class StoredFile:
    """A file of the folder.

    Attributes:
        nbytes: Its size.
        blake2b: Its BLAKE2b digest of 32 bytes, in hexadecimal, as ``b2sum -l 256`` prints it.
    """

    nbytes: int
    blake2b: str


@dataclass(frozen=True)
class Rotation:
    """Two inputs of the graph that are tables of angles, for those who run it without the driver.

    Attributes:
        cos: Name of the cosines' input.
        sin: Name of the sines' input.
        frequencies: Angle a position, for each pair of elements, at the model's whole context.
        magnitude: What cosines and sines are multiplied by.
    """

    cos: str
    sin: str
    frequencies: tuple[float, ...]
    magnitude: float


@dataclass(frozen=True)
class Manifest:
    """Everything about a folder that is not in its other files.

    Attributes:
        format: `FORMAT`.
        driver: Version of the driver that wrote it.
        pipeline: Name of the pipeline.
        target: Name of the target that the graph is for.
        config: The network's dimensions, by name; a pipeline says which there are.
        rotations: The rotary tables of the graph.
        activations: See `LoweredGraph.activations`.
        state_bytes: See `LoweredGraph.state_bytes`.
        weights: See `LoweredGraph.weights`.
        places: Where each of them is in the file of weights, by name; none if the weights are read
            from the model file.
        taken: See `LoweredGraph.taken`.
        op_packages: Digest of each op package whose rules took a part of the graph, by name.
        origin: The model file.
        chat: How conversations are put to the model.
        versions: Versions of the packages at work, by name.
        files: The folder's other files, by name.
    """

    format: int
    driver: str
    pipeline: str
    target: str
    config: dict[str, Any]
    rotations: tuple[Rotation, ...]
    activations: str
    state_bytes: int
    weights: tuple[LoweredWeight, ...]
    places: dict[str, Place]
    taken: tuple[Taken, ...]
    op_packages: dict[str, str]
    origin: Origin
    chat: ChatSettings
    versions: dict[str, str]
    files: dict[str, StoredFile]

    def graph(self, model: bytes) -> LoweredGraph:
        """The graph that it describes, given the model itself."""
        return LoweredGraph(model, self.weights, self.state_bytes, self.taken, self.activations)

    def numbers(self, folder: Path, kind: type[C]) -> C:
        """The network's dimensions as a pipeline has them.

        Args:
            folder: Where the manifest is, for messages.
            kind: The dataclass of the pipeline's numbers.

        Raises:
            ModelFileError: They are others than the pipeline's, or contradict something.
        """
        try:
            config = msgspec.convert(self.config, kind)
            assert dataclasses.is_dataclass(config)
            if unknown := _unknown(self.config, dataclasses.asdict(config)):
                raise ValueError(f"config.{unknown} is not known")
            for problem in _problems_of_config(self, config):
                raise ValueError(problem)
        except ValueError as error:  # msgspec's are such
            reason = str(error).replace("`$.", "`$.config.")
            raise ModelFileError(f"{folder / MANIFEST} cannot be used: {reason}") from error
        return config

    def check_documents(self, folder: Path, names: Collection[str]) -> None:
        """Makes sure that the folder has what a pipeline needs beside graph and weights.

        Args:
            folder: Where the manifest is, for messages.
            names: Of the files that the pipeline needs.

        Raises:
            ModelFileError: One is missing.
        """
        if missing := [name for name in names if name not in self.files]:
            raise ModelFileError(
                f"{folder / MANIFEST} cannot be used: files: {quoted(missing[0])} is missing"
            )

    def write(self, folder: Path) -> None:
        """Writes it into a folder.

        Raises:
            OSError: It cannot be written.
        """
        text = json.dumps(dataclasses.asdict(self), indent=1)
        (folder / MANIFEST).write_text(f"{text}\n", encoding="utf-8")


def rotations_of(interface: Interface, context_length: int) -> tuple[Rotation, ...]:
    """The rotary tables of a network.

    Args:
        interface: The network's.
        context_length: Of the model.
    """
    return tuple(
        Rotation(*names, tuple(rope.frequencies(context_length).tolist()), rope.scaling.magnitude)
        for rope, names in interface.rotations.items()
    )


def describe_file(path: Path) -> StoredFile:
    """Size and digest of a file.

    Raises:
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=32))
    return StoredFile(path.stat().st_size, digest.hexdigest())


def is_exported(path: Path) -> bool:
    """Whether a path is a folder with a manifest."""
    return exists(path / MANIFEST)


def target_for(model_path: Path | None, requested: str, known: Collection[str]) -> str:
    """What is to be run on, as `target_choice.choose` takes it: a folder is for one target only.

    Args:
        model_path: A model file or an exported folder.
        requested: A target's name, or ``auto``.
        known: Names of all targets there are.

    Raises:
        ModelFileError: It is a folder with a damaged manifest, or for a target that is not here.
        UsageError: It is a folder for another target than the one named.
    """
    if model_path is None or not is_exported(model_path):
        return requested
    target = read_manifest(model_path).target
    if requested not in ("auto", target):
        raise UsageError(
            f"{model_path} was exported for target '{target}' and does not run on '{requested}';"
            " leave out `target`, or export for that one"
        )
    if target not in known:
        raise ModelFileError(
            f"{model_path} was exported for target {quoted(target)}, which nothing here brings;"
            f" there are: {', '.join(known)}"
        )
    return target


def read_manifest(folder: Path) -> Manifest:
    """Reads and checks a folder's manifest, and that its files are there in their sizes.

    Raises:
        ModelFileError: The folder is no export, or one of another version; it is damaged, or files
            are missing, of another size, or links.
    """
    path = folder / MANIFEST
    try:
        if _regular_size(path) > _LARGEST_MANIFEST:
            raise ValueError(f"it is larger than {_LARGEST_MANIFEST >> 20} MiB")
        document = json.loads(path.read_bytes())
        version = document.get("format") if isinstance(document, dict) else None
        if version != FORMAT:
            raise ValueError(
                f"its format is {quoted(str(version))}, this version of the driver reads {FORMAT};"
                " export the model again"
            )
        manifest = msgspec.convert(document, Manifest)
        if json.loads(json.dumps(dataclasses.asdict(manifest))) != document:
            raise ValueError("it has more in it than this version of the driver knows")
        for problem in _problems(manifest):
            raise ValueError(problem)
    except FileNotFoundError as error:
        raise ModelFileError(
            f"{folder} is no exported folder: it has no {MANIFEST}; name a model file, or a folder"
            " that 'run-pipeline export' wrote"
        ) from error
    except (OSError, ValueError, RecursionError) as error:  # msgspec's are ValueErrors
        raise ModelFileError(f"{path} cannot be used: {_reason(error)}") from error
    for name, stored in manifest.files.items():
        _check_size(folder / name, stored)
    return manifest


def check_digests(folder: Path, manifest: Manifest, names: Collection[str]) -> None:
    """Checks that files are those that were exported.

    Args:
        folder: The folder.
        manifest: What it says of itself.
        names: The files to check.

    Raises:
        ModelFileError: One has another content.
    """
    for name in names:
        try:
            found = describe_file(folder / name)
        except OSError as error:
            raise ModelFileError(f"{folder / name} cannot be read: {error.strerror}") from error
        if found != manifest.files[name]:
            raise ModelFileError(
                f"{folder / name} has changed since it was exported; export the model again"
            )


def _problems(manifest: Manifest) -> Iterator[str]:
    """What contradicts something else in a manifest whose types are right."""
    yield from _problems_of_files(manifest)
    if manifest.origin.encoding not in REQUESTS:
        yield f"origin.encoding is {quoted(manifest.origin.encoding)}, which nobody can ask for"
    if len({weight.name for weight in manifest.weights}) != len(manifest.weights):
        yield "two weights have one name"
    for weight in manifest.weights:
        if weight.dtype not in _ELEMENT_TYPES:
            yield f"the dtype of {quoted(weight.name)} is {quoted(weight.dtype)}, expected a number"
        elif min(weight.shape, default=0) < 1:
            yield f"the shape of {quoted(weight.name)} is {quoted(str([*weight.shape]))}"
        elif manifest.places:
            yield from _problems_of_place(manifest, weight)


def _problems_of_config(manifest: Manifest, config: Numbers) -> Iterator[str]:
    for problem in config.problems():
        yield f"config: {problem}"
    # Before a network of that many layers is made.
    if config.layers > len(manifest.weights):
        yield f"config.layers is {config.layers}, but there are {len(manifest.weights)} weights"


def _unknown(given: Mapping[str, Any], known: Mapping[str, Any]) -> str:
    """The path of a key that is given and not known; empty if there is none."""
    for name, value in given.items():
        if name not in known:
            return name
        inner = known[name]
        if isinstance(inner, dict) and isinstance(value, dict) and (path := _unknown(value, inner)):
            return f"{name}.{path}"
    return ""


def _problems_of_files(manifest: Manifest) -> Iterator[str]:
    # Known names only: no path leads anywhere else.
    vocabulary = next((n for n in TOKENIZER_FILES if n in manifest.files), TOKENIZER_FILES[0])
    needed = {GRAPH, vocabulary} | ({MODEL, WEIGHTS} if manifest.places else set())
    for name in needed - manifest.files.keys():
        yield f"files: {quoted(name)} is missing"
    for name in manifest.files.keys() - needed - {*TOKENIZER_SETTINGS}:
        yield f"files: {quoted(name)} is not one of an exported folder's"
    for name, stored in manifest.files.items():
        if stored.nbytes < 1:
            yield f"files: {quoted(name)} has {stored.nbytes} bytes"


def _problems_of_place(manifest: Manifest, weight: LoweredWeight) -> Iterator[str]:
    place = manifest.places.get(weight.name)
    if place is None:
        yield f"places: {quoted(weight.name)} is missing"
    elif place.nbytes != weight.nbytes or place.offset % ALIGNMENT:
        yield (
            f"places: {quoted(weight.name)} has {place.nbytes} bytes from {place.offset}; expected"
            f" {weight.nbytes} from a multiple of {ALIGNMENT}"
        )
    elif not 0 <= place.offset <= manifest.files[WEIGHTS].nbytes - place.nbytes:
        yield f"places: {quoted(weight.name)} is outside of {WEIGHTS}"


def _regular_size(path: Path) -> int:
    """The size of a file that is itself in its folder.

    Raises:
        OSError: It cannot be found.
        ValueError: It is a link, or no file.
    """
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("it is a link or no file; expected the file itself")
    return status.st_size


def _check_size(path: Path, stored: StoredFile) -> None:
    try:
        nbytes = _regular_size(path)
    except (OSError, ValueError) as error:
        raise ModelFileError(f"{path} cannot be used: {_reason(error)}") from error
    if nbytes != stored.nbytes:
        raise ModelFileError(
            f"{path} has {nbytes} bytes, exported were {stored.nbytes}; copy the folder again"
        )


def _reason(error: Exception) -> str:
    said = error.strerror if isinstance(error, OSError) and error.strerror else error
    return f"{said or type(error).__name__}"
