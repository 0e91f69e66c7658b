"""The text-generation pipeline of a decoder: from a model file to a runner on a target."""

from __future__ import annotations

import inspect
from dataclasses import Field, dataclass
from pathlib import Path

from pipelines.common.cache import Cache
from pipelines.common.checkpoints.checkpoint import Checkpoint
from pipelines.common.checkpoints.random import RandomWeights
from pipelines.common.checkpoints.tokenizer_source import REMEDY
from pipelines.common.decoder.config import DecoderConfig
from pipelines.common.decoder.keys import check_keys, check_kind
from pipelines.common.decoder.read import decoder_config
from pipelines.common.decoder.rope import TENSORS
from pipelines.common.errors import PluginError, TokenizerError, UsageError
from pipelines.common.files import is_folder
from pipelines.common.models.chat import chat_settings_of
from pipelines.common.models.family import NetworkFamily
from pipelines.common.models.folder import open_folder, reopened
from pipelines.common.models.model import Model
from pipelines.common.models.random import random_checkpoint, random_in_place_of
from pipelines.common.progress import Progress
from pipelines.common.text.folder import tokenizer_of_folder
from pipelines.common.text.tokenizer import Tokenizer, check_matches
from pipelines.common.text_generation import Lookup, ModelOptions


@dataclass(frozen=True)
class DecoderPipeline(NetworkFamily):
    """Runs the models of one family.

    The network's function has a parameter that is annotated with the dataclass of its config:
    `DecoderConfig`, or one that adds fields made with `pipelines.common.decoder.numbers.key`.

    Attributes:
        bundled: The model file that runs when the user names none.
    """

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
        if options.random is not None:
            progress.notice(f"{self.name} runs on random weights: what it says means nothing")
        architecture = self.architecture_of(file, registry)
        check_kind(file, architecture, self.numbers)
        config = decoder_config(file, architecture, self.numbers)
        check_keys(file, architecture, config, progress.notice, self.ignored)
        cache = options.cache(progress.notice)
        program = self.program(file, config, options, cache, registry, progress, beside=TENSORS)
        tokenizer = self._tokenizer(file, cache, options, registry, progress)
        check_matches(tokenizer, config.vocabulary)
        if program.weights.notice:
            progress.notice(program.weights.notice)
        packages = registry.packages
        return Model(
            pipeline=self.name,
            config=config,
            program=program,
            tokenizer=tokenizer,
            chat=chat_settings_of(file.metadata, tokenizer),
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
        parameters = inspect.signature(self.function).parameters.values()
        kind = next((parameter.annotation for parameter in parameters), None)
        if isinstance(kind, str):
            known = vars(inspect.getmodule(self.function))
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
        return self._tokenizer(registry.opener(path)(path), cache, options, registry, progress)

    def _path(self, options: ModelOptions) -> Path:
        path = options.model_path or self.bundled
        if path is None:
            raise UsageError(f"{self.name} comes with no model; name a file with `model_path`")
        return path

    def _tokenizer(
        self,
        file: Checkpoint,
        cache: Cache,
        options: ModelOptions,
        registry: Lookup,
        progress: Progress,
    ) -> Tokenizer:
        """The one that the user named, or the file's own."""
        if options.tokenizer_path is not None:
            return tokenizer_of_folder(options.tokenizer_path, progress.notice)
        tokenizer = file.tokenizer(cache, progress.notice, registry.tokenizer)
        if not isinstance(tokenizer, Tokenizer):
            raise TokenizerError(
                f"{file.path}: the tokenizer is of a kind for encoders, which cannot write text;"
                f" {REMEDY}"
            )
        return tokenizer
