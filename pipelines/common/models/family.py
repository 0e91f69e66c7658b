"""What the pipelines of decoders and of encoders have in common: from a file to a program."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import Field, asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from pipelines.common import opened
from pipelines.common.cache import Cache
from pipelines.common.checkpoints.checkpoint import Checkpoint
from pipelines.common.checkpoints.random import RandomWeights
from pipelines.common.checkpoints.table import check_table
from pipelines.common.decoder.keys import check_keys
from pipelines.common.errors import ModelFileError, PluginError, UsageError, quoted
from pipelines.common.export.manifest import is_exported
from pipelines.common.models.folder import Folder, open_folder
from pipelines.common.models.model import OpenedModel
from pipelines.common.models.random import random_checkpoint, random_in_place_of
from pipelines.common.nn.network import Network
from pipelines.common.program.module_program import ModuleProgram
from pipelines.common.program.weights import WeightSource
from pipelines.common.progress import Progress
from pipelines.common.text_generation import Lookup, ModelOptions

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

M = TypeVar("M", bound=OpenedModel)


@dataclass(frozen=True)
class NetworkFamily(Generic[M]):
    """A pipeline whose models are networks with weights from a checkpoint.

    Attributes:
        name: The pipeline's name.
        architectures: What checkpoints call the architectures that it runs
            (``general.architecture``); their metadata keys begin with that.
        network: ``"package.module:function"``; the function makes the network of a config.
        ignored: Metadata keys, without the architecture, that change nothing and are not told of.
        bundled: The model file that runs when the user names none.
        base: The dataclass that those of the networks' dimensions are, or add to.
        documents: The files that exported folders have beside graph and weights.
        beside: Tensors of a checkpoint that are read by something else than the network.
    """

    name: str
    architectures: tuple[str, ...]
    network: str
    ignored: tuple[str, ...] = ()
    bundled: Path | None = None

    base: ClassVar[type[Any]]
    documents: ClassVar[Collection[str]] = ()
    beside: ClassVar[Collection[str]] = ()

    def open(self, options: ModelOptions, registry: Lookup, progress: Progress) -> M:
        """Opens and validates the model, or exported folder, and its tokenizer.

        Raises:
            UsageError: No model is given and none comes with the pipeline, or the target is
                unknown.
            ModelFileError: The file is not one that this pipeline can run.
            TokenizerError: Its tokenizer cannot be built.
        """

        def reopened(path: Path) -> Any:
            exported = replace(options, model_path=path, tokenizer_path=None, random=None)
            return self.open(exported, registry, Progress())

        common = partial(
            OpenedModel,
            pipeline=self.name,
            options=options,
            registry=registry,
            progress=progress,
            reopen=reopened,
        )
        file = self.source(options, registry, progress)
        if isinstance(file, Path):
            folder = open_folder(file, self, options, registry, progress)
            return self.of_folder(
                folder,
                common(
                    program=folder.program,
                    load_packages=folder.load_packages,
                    versions=folder.versions,
                ),
            )
        architecture = self.architecture_of(file, registry)
        config = self.read(file, architecture)
        check_keys(file, architecture, config, progress.notice, self.ignored)
        cache = options.cache(progress.notice)
        program = self.program(file, config, options, cache, registry, progress)
        packages = registry.packages
        model = self.of_file(
            file,
            config,
            cache,
            common(
                program=program,
                load_packages=lambda: packages.of_model(options, progress, self.name),
            ),
        )
        if program.weights.notice:
            progress.notice(program.weights.notice)
        return model

    def of_file(self, file: Checkpoint, config: Any, cache: Cache, common: OpenedModel) -> M:
        """The model of a checkpoint.

        Args:
            file: The checkpoint.
            config: The network's dimensions.
            cache: Where what is made of its tokenizer is kept.
            common: What it has in common with all others.

        Raises:
            TokenizerError: Its tokenizer cannot be built, or is of another kind.
            ModelFileError: It has more tokens than the network.
        """
        raise NotImplementedError

    def of_folder(self, folder: Folder[Any], common: OpenedModel) -> M:
        """The model of an exported folder; errors are those of `of_file`."""
        raise NotImplementedError

    def read(self, file: Checkpoint, architecture: str) -> Any:
        """The dimensions of a network.

        Raises:
            ModelFileError: A checkpoint lacks one, or has one that makes no sense.
        """
        raise NotImplementedError

    def tiny(
        self, architecture: str, wanted: RandomWeights
    ) -> tuple[dict[str, Any], Mapping[str, tuple[int, ...]]]:
        """Metadata and shapes of tensors that `read` makes the dimensions of a tiny network of.

        Raises:
            ParameterError: Something is wanted that the family does not have.
        """
        raise NotImplementedError

    def random_checkpoint(self, wanted: RandomWeights) -> Checkpoint:
        """A checkpoint of no file, of the first of the architectures; see `RandomPipeline`."""
        return random_checkpoint(self, self.architectures[0], wanted)

    def source(
        self, options: ModelOptions, registry: Lookup, progress: Progress
    ) -> Checkpoint | Path:
        """The checkpoint to run, or the path of an exported folder.

        Raises:
            UsageError: No model is given and none comes with the pipeline, or random weights are
                asked for where there can be none.
            ModelFileError: The file cannot be opened.
        """
        file: Checkpoint
        if options.random is not None and options.model_path is None:
            file = self.random_checkpoint(options.random)
        else:
            path = self.path_of(options)
            if options.model_path is None:
                progress.notice(
                    f"running the small bundled model {path.name}; for another one add"
                    " `model_path` Meta-Llama-3-8B.Q4_0.gguf"
                )
            if is_exported(path):
                if options.random is not None:
                    raise UsageError(
                        f"{path} is an exported folder, which runs on the weights that it has; name"
                        " a model file, or leave out `random`"
                    )
                return path
            file = registry.opener(path, options.weights)(path)
            if options.random is not None:
                file = random_in_place_of(file, options.random)
        if options.random is not None:
            progress.notice(f"{self.name} runs on random weights: what it says means nothing")
        return file

    def path_of(self, options: ModelOptions) -> Path:
        """The model that is meant.

        Raises:
            UsageError: None is given and none comes with the pipeline.
        """
        path = options.model_path or self.bundled
        if path is None:
            raise UsageError(f"{self.name} comes with no model; name a file with `model_path`")
        return path

    def architecture_of(self, file: Checkpoint, registry: Lookup) -> str:
        """What a checkpoint says that it is.

        Raises:
            ModelFileError: That is nothing that this pipeline runs; it names the one that does.
        """
        architecture = file.metadata.string("general.architecture")
        if architecture not in self.architectures:
            others = registry.pipelines_for(architecture)
            advice = f"use pipeline {' or '.join(others)}" if others else "no pipeline here runs it"
            raise ModelFileError(
                f"{file.path}: architecture {quoted(architecture)}; pipeline {self.name} runs"
                f" {', '.join(map(quoted, self.architectures))}; {advice}"
            )
        return architecture

    def build(self, config: Any) -> Network:
        """The network of a config; imports what it is made of."""
        with opened.making():  # what it reads is a source of the graphs that are made of it
            network: Network = self.function(config)
        return network

    @cached_property
    def function(self) -> Callable[..., Any]:
        """What makes the network.

        Raises:
            PluginError: There is no such function.
        """
        module, _, function = self.network.partition(":")
        try:
            made: Callable[..., Any] = getattr(importlib.import_module(module), function)
        except (AttributeError, ModuleNotFoundError) as error:
            missing = getattr(error, "name", None)
            if missing not in (module, function):  # something else is missing, inside of it
                raise
            raise PluginError(
                f"pipeline {self.name} has no network: {self.network!r} does not exist"
            ) from error
        return made

    @property
    def numbers(self) -> type[Any]:
        """The dataclass of the network's dimensions.

        Raises:
            PluginError: The network's function is not annotated with one.
        """
        parameters = inspect.signature(self.function).parameters.values()
        kind = next((parameter.annotation for parameter in parameters), None)
        if isinstance(kind, str):
            known = vars(inspect.getmodule(self.function))
            if kind not in known:
                raise PluginError(
                    f"the function {self.network} is annotated with {kind}, which its module has"
                    f" not; expected a class of {self.base.__name__}"
                )
            kind = known[kind]
        if not (isinstance(kind, type) and issubclass(kind, self.base)):
            raise PluginError(
                f"the function {self.network} has no parameter that is annotated with"
                f" {self.base.__name__}, or a class of that; expected one, which is the config"
            )
        for name, value in vars(kind).items():
            if isinstance(value, Field):  # the decorator would have put its default there
                raise PluginError(
                    f"{kind.__name__} of {self.network} has a field {name} and is no dataclass;"
                    " decorate it with @dataclass(frozen=True)"
                )
        return kind

    def program(
        self,
        file: Checkpoint,
        config: DataclassInstance,
        options: ModelOptions,
        cache: Cache,
        registry: Lookup,
        progress: Progress,
    ) -> ModuleProgram:
        """The network of a config, with the weights of a checkpoint.

        Args:
            file: The checkpoint.
            config: What has been read of it.
            options: What the user asked for.
            cache: Where converted weights and graphs are kept.
            registry: Where op packages are looked up.
            progress: Told when converted weights cannot be kept.

        Raises:
            ModelFileError: The tensors are not those of the network.
        """
        network = self.build(config)
        table = network.weights()
        check_table(file, table, ignored=self.beside)
        weights = WeightSource(file, table, options.encoding, cache, warn=progress.notice)
        packages = registry.packages
        return ModuleProgram(
            self.network, network, asdict(config), weights, cache, packages.with_rule_for
        )
