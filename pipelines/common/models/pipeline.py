"""The text-generation pipeline of a decoder: from a model file to a runner on a target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipelines.common.cache import Cache
from pipelines.common.checkpoints.checkpoint import Checkpoint
from pipelines.common.checkpoints.random import RandomWeights
from pipelines.common.checkpoints.tokenizer_source import REMEDY
from pipelines.common.decoder.config import DecoderConfig
from pipelines.common.decoder.keys import check_kind
from pipelines.common.decoder.read import decoder_config
from pipelines.common.decoder.rope import TENSORS
from pipelines.common.decoder.tiny import outline, tiny_metadata, tiny_sizes
from pipelines.common.errors import TokenizerError
from pipelines.common.export.manifest import TOKENIZER_SETTINGS, is_exported
from pipelines.common.models.chat import chat_settings_of
from pipelines.common.models.family import NetworkFamily
from pipelines.common.models.folder import Folder
from pipelines.common.models.model import Model, OpenedModel
from pipelines.common.progress import Progress
from pipelines.common.text.folder import tokenizer_of_folder
from pipelines.common.text.tokenizer import Tokenizer, check_matches
from pipelines.common.text_generation import Lookup, ModelOptions


@dataclass(frozen=True)
class DecoderPipeline(NetworkFamily[Model]):
    """Runs the models of one family.

    The network's function has a parameter that is annotated with the dataclass of its config:
    `DecoderConfig`, or one that adds fields made with `pipelines.common.decoder.numbers.key`.

    Attributes:
        chat_template: Name of the chat template that models of the family have where their files
            have none, see `pipelines.common.chat.named`.
    """

    chat_template: str = ""

    base = DecoderConfig
    documents = TOKENIZER_SETTINGS
    beside = TENSORS

    def of_file(
        self, file: Checkpoint, config: DecoderConfig, cache: Cache, common: OpenedModel
    ) -> Model:
        """See `NetworkFamily.of_file`."""
        tokenizer = self._tokenizer(file, cache, common.options, common.registry, common.progress)
        check_matches(tokenizer, config.vocabulary)
        chat = chat_settings_of(file.metadata, tokenizer, self.chat_template)
        return Model(config=config, tokenizer=tokenizer, chat=chat, **vars(common))

    def of_folder(self, folder: Folder[DecoderConfig], common: OpenedModel) -> Model:
        """See `NetworkFamily.of_folder`."""
        path = common.options.tokenizer_path or folder.path
        tokenizer = tokenizer_of_folder(path, common.progress.notice)
        check_matches(tokenizer, folder.config.vocabulary)
        chat = folder.program.manifest.chat
        return Model(config=folder.config, tokenizer=tokenizer, chat=chat, **vars(common))

    def read(self, file: Checkpoint, architecture: str) -> DecoderConfig:
        """See `NetworkFamily.read`."""
        check_kind(file, architecture, self.numbers)
        return decoder_config(file, architecture, self.numbers)

    def tiny(
        self, architecture: str, wanted: RandomWeights
    ) -> tuple[dict[str, Any], Mapping[str, tuple[int, ...]]]:
        """See `NetworkFamily.tiny`."""
        metadata = tiny_metadata(architecture, self.numbers, wanted)
        return metadata, outline(tiny_sizes(self.numbers, wanted.config))

    def open_tokenizer(
        self, options: ModelOptions, registry: Lookup, progress: Progress
    ) -> Tokenizer:
        """Opens the tokenizer alone, of any model file, also of one without tensors.

        Raises:
            UsageError: No model is given and none comes with the pipeline.
            ModelFileError: The file, or exported folder, is damaged.
            TokenizerError: Its tokenizer cannot be built.
        """
        path = self.path_of(options)
        if is_exported(path):
            return self.open(options, registry, progress).tokenizer
        file, cache = registry.opener(path)(path), options.cache(progress.notice)
        return self._tokenizer(file, cache, options, registry, progress)

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
