"""The text-generation pipeline of a decoder: from a model file to a runner on a target."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from dataclasses import Field, asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pipelines.common import opened
from pipelines.common.cache import Cache
from pipelines.common.checkpoints.checkpoint import Checkpoint
from pipelines.common.checkpoints.random import RandomWeights
from pipelines.common.checkpoints.table import check_table
from pipelines.common.decoder.config import DecoderConfig
from pipelines.common.decoder.keys import check_keys, check_kind
from pipelines.common.decoder.read import decoder_config
from pipelines.common.decoder.rope import TENSORS
from pipelines.common.errors import ModelFileError, PluginError, UsageError, quoted
from pipelines.common.files import is_folder
from pipelines.common.models.folder import open_folder, reopened
from pipelines.common.models.model import Model
from pipelines.common.models.random import random_checkpoint, random_in_place_of
from pipelines.common.nn.network import Network
from pipelines.common.program.module_program import ModuleProgram
from pipelines.common.program.weights import WeightSource
from pipelines.common.progress import Progress
from pipelines.common.text import json_tokenizer
from pipelines.common.text.tokenizer import Tokenizer, check_matches
from pipelines.common.text_generation import Lookup, ModelOptions


@dataclass(frozen=True)
class DecoderPipeline:
    """Runs the models of one family.

    Attributes:
        name: The pipeline's name.
        architectures: What checkpoints call the architectures that it runs
            (``general.architecture``); their metadata keys begin with that.
        network: ``"package.module:function"``; the function makes the network of a config. Its
            parameter is annotated with the dataclass of that: `DecoderConfig`, or one that adds
            fields made with `pipelines.common.decoder.numbers.key`.
        ignored: Metadata keys, without the architecture, that change nothing and are not told of.
        bundled: The model file that runs when the user names none.
    """

    name: str
    architectures: tuple[str, ...]
    network: str
    ignored: tuple[str, ...] = ()
    bundled: Path | None = None

    def open(self, options: ModelOptions, registry: Lookup, progress: Progress) -> Model:
        """Opens and validates the model file, or exported folder, and its tokenizer.

        Raises:
            UsageError: No model is given and none comes with the pipeline, or the target is
            unknown.
            ModelFileError: The file is not one that this pipeline can run.
            TokenizerError: Its tokenizer cannot be built.
        """
        file: Checkpoint
        if options.random is not None and options.model_path is None:
            file = self.random_checkpoint(options.random)
        else:
            path = self._path(options)
            if options.model_path is None:
                progress.notice(
                    f"running the small bundled model {path.name}; for another one add"
                    " `model_path` Meta-Llama-3-8B.Q4_0.gguf"
                )
            if is_folder(path):
                if options.random is not None:
                    raise UsageError(
                        f"{path} is an exported folder, which runs on the weights that it has; name"
                        " a model file, or leave out `random`"
                    )
                return open_folder(path, self, options, registry, progress)
            file = registry.opener(path)(path)
            if options.random is not None:
                file = random_in_place_of(file, options.random)
        path = file.path
        if options.random is not None:
            progress.notice(f"{self.name} runs on random weights: what it says means nothing")
        architecture = file.metadata.string("general.architecture")
        if architecture not in self.architectures:
            others = registry.pipelines_for(architecture)
            advice = f"use pipeline {' or '.join(others)}" if others else "no pipeline here runs it"
            raise ModelFileError(
                f"{path}: architecture {quoted(architecture)}; pipeline {self.name} runs"
                f" {', '.join(map(quoted, self.architectures))}; {advice}"
            )
        check_kind(file, architecture, self.numbers)
        config = decoder_config(file, architecture, self.numbers)
        check_keys(file, architecture, config, progress.notice, self.ignored)
        network = self.build(config)
        table = network.weights()
        check_table(file, table, ignored=TENSORS)
        cache = options.cache(progress.notice)
        weights = WeightSource(file, table, options.encoding, cache, warn=progress.notice)
        tokenizer = self._tokenizer(file, cache, options, progress)
        check_matches(tokenizer, config.vocabulary)
        if weights.notice:
            progress.notice(weights.notice)
        packages = registry.packages
        return Model(
            pipeline=self.name,
            config=config,
            program=ModuleProgram(
                self.network, network, asdict(config), weights, cache, packages.with_rule_for
            ),
            tokenizer=tokenizer,
            options=options,
            registry=registry,
            progress=progress,
            load_packages=lambda: packages.of_model(options, progress, self.name),
            reopen=lambda folder: reopened(folder, self, options, registry),
        )

    def random_checkpoint(self, wanted: RandomWeights) -> Checkpoint:
        """A checkpoint of no file, of the first of the architectures; see `RandomPipeline`."""
        return random_checkpoint(self, self.architectures[0], wanted)

    @property
    def numbers(self) -> type[DecoderConfig]:
        """The dataclass of the network's dimensions.

        Raises:
            PluginError: The network's function is not annotated with one.
        """
        parameters = inspect.signature(self._function).parameters.values()
        kind = next((parameter.annotation for parameter in parameters), None)
        if isinstance(kind, str):
            known = vars(inspect.getmodule(self._function))
            if kind not in known:
                raise PluginError(
                    f"the function {self.network} is annotated with {kind}, which its module has"
                    " not; expected a class of DecoderConfig"
                )
            kind = known[kind]
        if not (isinstance(kind, type) and issubclass(kind, DecoderConfig)):
            raise PluginError(
                f"the function {self.network} has no parameter that is annotated with"
                " DecoderConfig, or a class of that; expected one, which is the config"
            )
        for name, value in vars(kind).items():
            if isinstance(value, Field):  # the decorator would have put its default there
                raise PluginError(
                    f"{kind.__name__} of {self.network} has a field {name} and is no dataclass;"
                    " decorate it with @dataclass(frozen=True)"
                )
        return kind

    def build(self, config: DecoderConfig) -> Network:
        """The network of a config; imports what it is made of."""
        with opened.making():  # what it reads is a source of the graphs that are made of it
            network: Network = self._function(config)
        return network

    @cached_property
    def _function(self) -> Callable[..., Any]:
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

    def open_tokenizer(
        self, options: ModelOptions, registry: Lookup, progress: Progress
    ) -> Tokenizer:
        """Opens the tokenizer alone, of any model file, also of one without tensors.

        Raises:
            UsageError: No model is given and none comes with the pipeline.
            ModelFileError: The file, or exported folder, is damaged.
            TokenizerError: Its tokenizer cannot be built.
        """
        path = self._path(options)
        if is_folder(path):
            return self.open(options, registry, progress).tokenizer
        cache = options.cache(progress.notice)
        return self._tokenizer(registry.opener(path)(path), cache, options, progress)

    def _path(self, options: ModelOptions) -> Path:
        path = options.model_path or self.bundled
        if path is None:
            raise UsageError(f"{self.name} comes with no model; name a file with `model_path`")
        return path

    def _tokenizer(
        self, file: Checkpoint, cache: Cache, options: ModelOptions, progress: Progress
    ) -> Tokenizer:
        """The one that the user named, or the file's own."""
        if options.tokenizer_path is not None:
            return json_tokenizer.load(options.tokenizer_path, progress.notice)
        return file.tokenizer(cache, progress.notice)
