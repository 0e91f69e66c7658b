"""What the pipelines of decoders and of encoders have in common: from a file to a program."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pipelines.common import opened
from pipelines.common.cache import Cache
from pipelines.common.checkpoints.checkpoint import Checkpoint
from pipelines.common.checkpoints.table import check_table
from pipelines.common.errors import ModelFileError, PluginError, quoted
from pipelines.common.nn.network import Network
from pipelines.common.program.module_program import ModuleProgram
from pipelines.common.program.weights import WeightSource
from pipelines.common.progress import Progress
from pipelines.common.text_generation import Lookup, ModelOptions

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


@dataclass(frozen=True)
class NetworkFamily:
    """A pipeline whose models are networks with weights from a checkpoint.

    Attributes:
        name: The pipeline's name.
        architectures: What checkpoints call the architectures that it runs
            (``general.architecture``); their metadata keys begin with that.
        network: ``"package.module:function"``; the function makes the network of a config.
        ignored: Metadata keys, without the architecture, that change nothing and are not told of.
    """

    name: str
    architectures: tuple[str, ...]
    network: str
    ignored: tuple[str, ...] = ()

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

    def program(
        self,
        file: Checkpoint,
        config: DataclassInstance,
        options: ModelOptions,
        cache: Cache,
        registry: Lookup,
        progress: Progress,
        *,
        beside: Collection[str] = (),
    ) -> ModuleProgram:
        """The network of a config, with the weights of a checkpoint.

        Args:
            file: The checkpoint.
            config: What has been read of it.
            options: What the user asked for.
            cache: Where converted weights and graphs are kept.
            registry: Where op packages are looked up.
            progress: Told when converted weights cannot be kept.
            beside: Tensors that are read by something else.

        Raises:
            ModelFileError: The tensors are not those of the network.
        """
        network = self.build(config)
        table = network.weights()
        check_table(file, table, ignored=beside)
        weights = WeightSource(file, table, options.encoding, cache, warn=progress.notice)
        packages = registry.packages
        return ModuleProgram(
            self.network, network, asdict(config), weights, cache, packages.with_rule_for
        )
