"""Runs an exported folder: nothing is built."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from pipelines.common.cache import Cache
from pipelines.common.checkpoints.table import Weight, check_table
from pipelines.common.errors import ModelFileError
from pipelines.common.export.manifest import (
    GRAPH,
    MANIFEST,
    WEIGHTS,
    Manifest,
    Numbers,
    check_digests,
    read_manifest,
    rotations_of,
)
from pipelines.common.export.packages import lacks_native, load_packages
from pipelines.common.files import exists, is_file, is_folder
from pipelines.common.graph.rules import LoweredGraph, LoweredWeight, Rule
from pipelines.common.nn.interface import Interface
from pipelines.common.nn.network import Network
from pipelines.common.program.origin import Origin
from pipelines.common.program.package import Layout, LoadedPackage
from pipelines.common.program.stored_weights import StoredWeights
from pipelines.common.program.target import Check, Deployment
from pipelines.common.program.tensors import Made, identity, make_tensors
from pipelines.common.program.weights import WeightSource
from pipelines.common.progress import Progress
from pipelines.common.text_generation import Lookup, ModelOptions

C = TypeVar("C", bound=Numbers)


class Family(Protocol[C]):
    """The pipeline that runs a folder, see `pipelines.common.models.family.NetworkFamily`."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def numbers(self) -> type[C]:
        """The dataclass of its networks' dimensions."""

    @property
    def documents(self) -> Collection[str]:
        """The files that its folders have beside graph and weights."""

    @property
    def beside(self) -> Collection[str]:
        """Tensors of a model file that are read by something else than its networks."""

    def build(self, config: C) -> Network:
        """The network of a config."""


@dataclass(frozen=True)
class Folder(Generic[C]):
    """An exported folder that has been opened.

    Attributes:
        path: Where it is.
        config: The network's dimensions.
        program: Its graph and weights.
        load_packages: Loads the op packages that the graph was made with.
        versions: What has exported it.
    """

    path: Path
    config: C
    program: ExportedProgram
    load_packages: Callable[[], tuple[LoadedPackage, ...]]
    versions: Mapping[str, str]


_SHAPED_AS_STORED = ("float32", "float16", "bfloat16")
"""Layouts whose tensors have the shape of the weight."""

_STATE_ITEM_BITS = (4, 8, 16, 32)
"""What targets keep an element of the state in."""


def open_folder(
    folder: Path,
    family: Family[C],
    options: ModelOptions,
    registry: Lookup,
    progress: Progress,
) -> Folder[C]:
    """Opens and validates an exported folder.

    The sizes of all files are checked, and the digests of all but the weights.

    Args:
        folder: The folder.
        family: The pipeline that is to run it.
        options: What the user asked for.
        registry: Where targets, op packages and weight formats are looked up.
        progress: Told of what the user should know.

    Raises:
        ModelFileError: The folder is no export, damaged, of another version or another pipeline's.
    """
    manifest = read_manifest(folder)
    if manifest.pipeline != family.name:
        raise ModelFileError(
            f"{folder} was exported from pipeline {manifest.pipeline!r}; {family.name} cannot run"
            " it"
        )
    config = manifest.numbers(folder, family.numbers)
    manifest.check_documents(folder, family.documents)
    check_digests(folder, manifest, sorted(manifest.files.keys() - {WEIGHTS}))
    network = family.build(config)
    table = network.weights()
    _check_interface(folder, manifest, network.interface, config.context_length)
    _check_weights(folder, manifest, table)
    if options.encoding not in (manifest.origin.encoding, "auto"):
        progress.notice(
            f"{folder} keeps the encodings of its export, `encoding` {manifest.origin.encoding}"
        )
    cache = options.cache(progress.notice)
    weights: StoredWeights | WeightSource
    if manifest.places:
        stored = manifest.files[WEIGHTS]
        weights = StoredWeights(folder / WEIGHTS, manifest.places, stored.nbytes, stored.blake2b)
    else:
        weights = _referenced(folder, manifest, table, family.beside, registry, progress, cache)
    return Folder(
        folder,
        config,
        ExportedProgram(folder, manifest, network.interface, weights, cache),
        lambda: _packages(folder, manifest, options, registry, progress),
        {"exported-by": manifest.driver},
    )


@dataclass(frozen=True)
class ExportedProgram:
    """Implements `pipelines.common.program.target.Program` with a graph that is already lowered.

    Attributes:
        folder: Where it is.
        manifest: What the folder says of itself.
        interface: See `Program.interface`.
        weights: The graph's tensors, or what they are made of.
        cache: Where a target keeps what it makes of them.
    """

    folder: Path
    manifest: Manifest
    interface: Interface
    weights: StoredWeights | WeightSource
    cache: Cache

    @property
    def numbers(self) -> Mapping[str, Any]:
        """See `Program.numbers`."""
        return self.manifest.config

    @property
    def encodings(self) -> Mapping[str, str]:
        """See `Program.encodings`."""
        return {weight.parameter: weight.encoding for weight in self.manifest.weights}

    def origin(self, progress: Progress) -> Origin:  # noqa: ARG002 - nothing is read
        """See `Program.origin`."""
        return self.manifest.origin

    def lowered(
        self,
        deployment: Deployment,
        target: str,
        rules: Sequence[Rule],  # noqa: ARG002 - they have been applied
        activations: str,
        check: Check | None = None,  # noqa: ARG002 - it was asked when the graph was made
    ) -> LoweredGraph:
        """See `Program.lowered`; the graph as it was exported."""
        wanted = target, activations
        if wanted != (self.manifest.target, self.manifest.activations):
            raise ModelFileError(
                f"{self.folder} holds a graph for target {self.manifest.target} in"
                f" {self.manifest.activations}, wanted is one for {target} in {activations}; export"
                " the model again"
            )
        with deployment.progress.phase("lower", "reading the exported graph"):
            return self.manifest.graph((self.folder / GRAPH).read_bytes())

    def identity(self, weight: LoweredWeight) -> Hashable:
        """See `Program.identity`."""
        if isinstance(self.weights, WeightSource):
            return identity(self.weights, weight)
        return self.weights.place(weight)

    def tensors(
        self,
        graph: LoweredGraph,
        layouts: Mapping[str, Layout],
        packages: Sequence[LoadedPackage] = (),
    ) -> Iterator[Made]:
        """See `Program.tensors`."""
        if isinstance(self.weights, WeightSource):
            return self._made(make_tensors(self.weights, graph.weights, layouts, packages))
        return self.weights.tensors(graph.weights)

    def _made(self, tensors: Iterator[Made]) -> Iterator[Made]:
        try:
            yield from tensors
        except (KeyError, ValueError) as error:  # of a layout, for a weight that it is not for
            raise ModelFileError(
                f"{self.folder} lays weights out as their encodings do not allow:"
                f" {type(error).__name__}: {error}; export the model again"
            ) from error


def _packages(
    folder: Path, manifest: Manifest, options: ModelOptions, registry: Lookup, progress: Progress
) -> tuple[LoadedPackage, ...]:
    """The op packages that a folder's graph was made with, see `load_packages`."""
    if lacks_native(manifest, options, registry):
        progress.notice(
            f"{folder} was exported without the native CPU kernels, so prompts take longer; export"
            " it with `custom_ops` native"
        )
    return load_packages(folder, manifest, options, registry)


def _check_interface(
    folder: Path, manifest: Manifest, interface: Interface, context_length: int
) -> None:
    """Checks that the graph keeps and rotates what the network does.

    Raises:
        ModelFileError: It does not.
    """
    if manifest.state_bytes * 8 not in [interface.token_elements * n for n in _STATE_ITEM_BITS]:
        raise ModelFileError(
            f"{folder / MANIFEST} cannot be used: state_bytes is {manifest.state_bytes}, which does"
            " not fit config"
        )
    if manifest.rotations != rotations_of(interface, context_length):
        raise ModelFileError(
            f"{folder / MANIFEST} cannot be used: rotations are not what config makes them"
        )


def _check_weights(folder: Path, manifest: Manifest, table: Sequence[Weight]) -> None:
    """Checks that the graph's tensors are made of the weights that the network has.

    Raises:
        ModelFileError: They are not.
    """
    by_parameter = {weight.parameter: weight for weight in table}
    used = {weight.parameter for weight in manifest.weights}
    if unlike := sorted(used ^ by_parameter.keys()):
        raise ModelFileError(
            f"{folder} does not fit pipeline {manifest.pipeline}: {unlike[0]!r} is in only one of"
            " the graph's weights and the network's"
        )
    for weight in manifest.weights:
        shape, kind = by_parameter[weight.parameter].shape, by_parameter[weight.parameter].kind
        if weight.rows is not None:
            first, last = weight.rows
            if not 0 <= first < last <= math.prod(shape[:-1]):
                raise ModelFileError(
                    f"{folder}: {weight.name} is made of the rows {first} to {last}, which config's"
                    f" {[*shape]} does not have"
                )
            shape = (last - first, shape[-1])
        by_row = kind == "embedding" and not weight.package
        if (weight.layout in _SHAPED_AS_STORED and weight.shape != shape) or (
            by_row and weight.shape[0] != shape[0]
        ):
            raise ModelFileError(
                f"{folder}: the shape of {weight.name} is {[*weight.shape]}, but config makes it"
                f" {[*shape]}"
            )


def _referenced(
    folder: Path,
    manifest: Manifest,
    table: Sequence[Weight],
    beside: Collection[str],
    registry: Lookup,
    progress: Progress,
    cache: Cache,
) -> WeightSource:
    """The weights of a folder that leaves them in the model file, which the user is told of."""
    path = Path(manifest.origin.path)
    taken = f"{folder} takes its weights from {path}"
    # Before it is opened: a device or a pipe that the folder names is not even touched.
    if not exists(path):
        raise ModelFileError(
            f"{taken}, which is not there; bring it back, or export without"
            " `reference_weights=True`"
        )
    if not path.is_absolute() or not (is_file(path) or is_folder(path)):
        raise ModelFileError(f"{taken}, which is no model file; expected the whole path of one")
    progress.notice(taken)
    file = registry.opener(path)(path)
    with progress.shown(f"reading all of {path.name}"):
        fingerprint = file.fingerprint(cache.digests)
    if fingerprint != manifest.origin.fingerprint:
        raise ModelFileError(f"{taken}, which has changed; export the model again")
    check_table(file, table, ignored=beside)
    return WeightSource(file, table, manifest.origin.encoding, cache, warn=progress.notice)
