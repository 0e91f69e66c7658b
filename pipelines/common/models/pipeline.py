"""The text-generation pipeline of a decoder: from a model file to a runner on a target."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from pipelines.common.cache import Cache
from pipelines.common.checkpoints.checkpoint import Checkpoint
from pipelines.common.checkpoints.table import Weight, check_table
from pipelines.common.decoder.config import DecoderConfig
from pipelines.common.decoder.frequencies import FACTORS, frequencies
from pipelines.common.decoder.keys import check_keys, check_kind
from pipelines.common.decoder.read import decoder_config
from pipelines.common.errors import ModelFileError, UsageError, quoted
from pipelines.common.files import is_folder
from pipelines.common.models.folder import open_folder, reopened
from pipelines.common.models.model import Model
from pipelines.common.program.module_program import ModuleProgram
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

    def open(self, options: ModelOptions, registry: Lookup, progress: Progress) -> Model:
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
        check_table(file, table, ignored=(FACTORS,))
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
            frequencies=frequencies(config, file, architecture),
            program=ModuleProgram(self.network, weights, cache, packages.with_rule_for),
            tokenizer=tokenizer,
            options=options,
            registry=registry,
            progress=progress,
            load_packages=lambda: packages.of_model(options, progress),
            reopen=lambda folder: reopened(folder, self.name, self.weights, options, registry),
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
        self, file: Checkpoint, cache: Cache, options: ModelOptions, progress: Progress
    ) -> Tokenizer:
        """The one that the user named, or the file's own."""
        if options.tokenizer_path is not None:
            return json_tokenizer.load(options.tokenizer_path, progress.notice)
        return file.tokenizer(cache, progress.notice)
