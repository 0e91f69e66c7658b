"""The text-generation pipeline of a decoder: from a model file to a runner on a target."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pipelines
from pipelines.common.cache import Cache
from pipelines.common.checkpoints.gguf import rope
from pipelines.common.checkpoints.gguf import tokenizer as gguf_tokenizer
from pipelines.common.checkpoints.gguf.decoder_config import decoder_config
from pipelines.common.checkpoints.gguf.keys import check_keys, check_kind
from pipelines.common.checkpoints.model_file import ModelFile
from pipelines.common.checkpoints.table import Weight, check_table
from pipelines.common.decoder.config import DecoderConfig
from pipelines.common.errors import ModelFileError, UsageError, quoted
from pipelines.common.files import is_folder
from pipelines.common.models.exported import ExportedModel, open_folder, reopened
from pipelines.common.program.module_program import ModuleProgram
from pipelines.common.program.package import LoadedPackage
from pipelines.common.program.runner import Runner
from pipelines.common.program.target import Deployment, Target
from pipelines.common.program.weights import WeightSource
from pipelines.common.progress import Progress
from pipelines.common.text import json_tokenizer
from pipelines.common.text.tokenizer import Tokenizer, check_matches
from pipelines.common.text_generation import Lookup, ModelOptions


@dataclass(frozen=True)
class DecoderPipeline:
    """Runs the models of one architecture.

    Attributes:
        name: The pipeline's name.
        architecture: What the model file calls the architecture (``general.architecture``).
        network: ``"package.module:function"``; the function makes the torch module of a config. It
            is imported when a graph has to be built, and not at all when the cache holds it.
        weights: Makes the weight table from a config and the names of the file's tensors.
        bundled: The model file that runs when the user names none.
    """

    name: str
    architecture: str
    network: str
    weights: Callable[[DecoderConfig, Collection[str]], list[Weight]]
    bundled: Path | None = None

    def open(
        self, options: ModelOptions, registry: Lookup, progress: Progress
    ) -> DecoderModel | ExportedModel:
        """Opens and validates the model file, or exported folder, and its tokenizer.

        Raises:
            UsageError: No model is given and none comes with the pipeline, or the target is
            unknown.
            ModelFileError: The file is not one that this pipeline can run.
            TokenizerError: Its tokenizer cannot be built.
        """
        path = self._path(options)
        if options.model_path is None:
            progress.notice(
                f"running the small bundled model {path.name}; for another one add"
                " `model_path` Meta-Llama-3-8B.Q4_0.gguf"
            )
        if is_folder(path):
            return open_folder(path, self.name, self.weights, options, registry, progress)
        file = registry.opener(path)(path)
        architecture = file.metadata.string("general.architecture")
        if architecture != self.architecture:
            others = registry.pipelines_for(architecture)
            advice = f"use pipeline {' or '.join(others)}" if others else "no pipeline here runs it"
            raise ModelFileError(
                f"{path}: architecture {quoted(architecture)}; pipeline {self.name} runs"
                f" {quoted(self.architecture)}; {advice}"
            )
        check_kind(file, architecture)
        config = decoder_config(file, architecture)
        check_keys(file, architecture, config, progress.notice)
        table = self.weights(config, file.tensors.keys())
        check_table(file, table, ignored=(rope.FACTORS,))
        cache = options.cache(progress.notice)
        weights = WeightSource(file, table, options.encoding, cache, warn=progress.notice)
        tokenizer = self._tokenizer(file, cache, options, progress)
        check_matches(tokenizer, config.vocabulary)
        if weights.notice:
            progress.notice(weights.notice)
        return DecoderModel(
            self, options, registry, progress, file, config, weights, tokenizer, cache
        )

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
        self, file: ModelFile, cache: Cache, options: ModelOptions, progress: Progress
    ) -> Tokenizer:
        """The one that the user named, or the file's own."""
        if options.tokenizer_path is not None:
            return json_tokenizer.load(options.tokenizer_path, progress.notice)
        return gguf_tokenizer.load(
            file.metadata,
            cache,
            file.metadata_digest,
            source=str(file.path),
            notice=progress.notice,
        )


@dataclass(frozen=True)
class DecoderModel:
    """An opened model file; nothing is built before `start`."""

    pipeline: DecoderPipeline
    options: ModelOptions
    registry: Lookup
    progress: Progress
    file: ModelFile
    config: DecoderConfig
    weights: WeightSource
    tokenizer: Tokenizer
    cache: Cache

    @property
    def context_length(self) -> int:
        """Most tokens, prompt and output together, that the model was made for."""
        return self.config.context_length

    @cached_property
    def packages(self) -> tuple[LoadedPackage, ...]:
        """The op packages that it runs with; they are loaded when it is started."""
        return self.registry.packages.of_model(self.options, self.progress)

    def start(self, *, slots: int, max_length: int) -> Runner:
        """Makes a runner on the target asked for, see `Target.start`."""
        return self.target.start(self.deployment(slots=slots, max_length=max_length))

    def deployment(self, *, slots: int, max_length: int) -> Deployment:
        """See `GraphModel.deployment`."""
        return Deployment(
            pipeline=self.pipeline.name,
            config=self.config,
            program=ModuleProgram(
                self.pipeline.network,
                self.weights,
                self.cache,
                self.registry.packages.with_rule_for,
            ),
            frequencies=rope.frequencies(self.config, self.file, self.pipeline.architecture),
            slots=slots,
            max_length=max_length,
            progress=self.progress,
            threads=self.options.threads_here(self.progress),
            device=self.options.device,
            packages=self.packages,
        )

    def exported(self, folder: Path) -> ExportedModel:
        """See `GraphModel.exported`."""
        table = self.pipeline.weights
        return reopened(folder, self.pipeline.name, table, self.options, self.registry)

    def describe(self) -> dict[str, Any]:
        """What runs: pipeline, model, encodings by number of weights, target, op packages."""
        encodings: dict[str, int] = {}
        for encoding in self.weights.encodings.values():
            encodings[encoding.name] = encodings.get(encoding.name, 0) + 1
        return {
            "pipeline": self.pipeline.name,
            "model": str(self.file.path),
            "model_fingerprint": self._fingerprint,
            "model_name": self.file.metadata.string("general.name", None),
            "quantization_encoding": self.options.encoding,
            "encodings": encodings,
            "target": self.options.target,
            "op_packages": [package.name for package in self.packages],
            "versions": {"pipeline-driver": pipelines.__version__, **self.target.versions()},
        }

    @property
    def target(self) -> Target:
        """The target asked for."""
        return self.registry.load_target(self.options.target)

    @property
    def _fingerprint(self) -> str:
        with self.progress.shown(f"reading all of {self.file.path.name}"):
            return self.file.fingerprint(self.cache.digests)
