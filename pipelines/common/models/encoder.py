"""The pipeline of an encoder: from a model file to vectors of texts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipelines.common.cache import Cache
from pipelines.common.checkpoints.checkpoint import Checkpoint
from pipelines.common.checkpoints.random import RandomWeights
from pipelines.common.checkpoints.tokenizer_source import MODEL
from pipelines.common.encoder.config import EncoderConfig, encoder_config
from pipelines.common.encoder.tiny import tiny_encoder
from pipelines.common.errors import ModelFileError, TargetError, TokenizerError, quoted
from pipelines.common.models.family import NetworkFamily
from pipelines.common.models.folder import Folder
from pipelines.common.models.model import OpenedModel
from pipelines.common.program.encoder import TextEncoder
from pipelines.common.program.function import FunctionTarget
from pipelines.common.program.target import Target
from pipelines.common.text.word_pieces import WordPieces

POOLINGS = {"mean": 1, "cls": 2, "last": 3}
"""What makes one vector of those of a text's tokens, with llama.cpp's numbers for it."""

_VOCABULARY: Final = "tokenizer.json"


@dataclass(frozen=True, kw_only=True)
class EncoderModel(OpenedModel):
    """An opened encoder; builds nothing before `start`.

    Attributes:
        config: The encoder's dimensions.
        tokenizer: The model's.
    """

    config: EncoderConfig
    tokenizer: WordPieces

    @property
    def pooling(self) -> str:
        """What the model was made for; the mean where its file does not say."""
        return next((name for name, n in POOLINGS.items() if n == self.config.pooling), "mean")

    @property
    def context_length(self) -> int:
        """Most tokens of a text."""
        return self.config.context_length

    def documents(self) -> Mapping[str, bytes]:
        """See `GraphModel.documents`."""
        return {_VOCABULARY: self.tokenizer.as_json().encode()}

    def start(self, target: Target | None = None) -> TextEncoder:
        """Makes it run on the target asked for, or one in its place.

        Raises:
            TargetError: The target runs no encoders; and see `Target.start`.
        """
        target, longest = target or self.target, self.context_length
        if not isinstance(target, FunctionTarget):
            raise TargetError(
                f"target {self.options.target} runs no encoders, which {self.pipeline} is one of;"
                " use `target` cpu"
            )
        deployment = self.deployment(slots=1, max_length=longest)
        return TextEncoder(target.start_function(deployment), deployment.interface, longest)


@dataclass(frozen=True)
class EncoderPipeline(NetworkFamily[EncoderModel]):
    """Runs the encoders of one family.

    The network's function has a parameter that is annotated with the dataclass of its config:
    `EncoderConfig`, or one that adds fields made with `pipelines.common.decoder.numbers.key`.
    """

    base = EncoderConfig

    def of_file(
        self, file: Checkpoint, config: EncoderConfig, cache: Cache, common: OpenedModel
    ) -> EncoderModel:
        """See `NetworkFamily.of_file`."""
        tokenizer = file.tokenizer(cache, common.progress.notice, common.registry.tokenizer)
        if not isinstance(tokenizer, WordPieces):
            kind = file.metadata.string(MODEL)
            raise TokenizerError(
                f"{file.path}: the tokenizer is of the kind {quoted(kind)}; encoders have 'bert'"
            )
        _check_matches(tokenizer, config)
        return EncoderModel(config=config, tokenizer=tokenizer, **vars(common))

    def of_folder(self, folder: Folder[EncoderConfig], common: OpenedModel) -> EncoderModel:
        """See `NetworkFamily.of_folder`."""
        tokenizer = WordPieces.load(folder.path / _VOCABULARY)
        _check_matches(tokenizer, folder.config)
        return EncoderModel(config=folder.config, tokenizer=tokenizer, **vars(common))

    def read(self, file: Checkpoint, architecture: str) -> EncoderConfig:
        """See `NetworkFamily.read`."""
        return encoder_config(file, architecture, self.numbers)

    def tiny(
        self, architecture: str, wanted: RandomWeights
    ) -> tuple[dict[str, Any], Mapping[str, tuple[int, ...]]]:
        """See `NetworkFamily.tiny`."""
        return tiny_encoder(architecture, self.numbers, wanted)


def _check_matches(tokenizer: WordPieces, config: EncoderConfig) -> None:
    """Makes sure that the embedding has a row for each token.

    Raises:
        ModelFileError: It has not.
    """
    if tokenizer.vocab_size > config.vocabulary:
        raise ModelFileError(
            f"{tokenizer.source}: the tokenizer has {tokenizer.vocab_size} tokens, the embedding"
            f" {config.vocabulary} rows"
        )


@dataclass(frozen=True)
class Embeddings:
    """Makes one vector of each text.

    Attributes:
        encoder: Has the vectors of tokens.
        pooling: One of `POOLINGS`.
        normalize: Whether vectors are brought to length one.
    """

    encoder: TextEncoder
    pooling: str = "mean"
    normalize: bool = True

    def of(self, texts: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """The vectors of texts, ``[texts, hidden_size]``.

        Args:
            texts: Their token ids.
        """
        return np.stack([*self._each(texts)])

    def _each(self, texts: Sequence[Sequence[int]]) -> Iterator[NDArray[np.float32]]:
        for vectors in self.encoder.encode(texts):
            vector = {"mean": vectors.mean(0), "cls": vectors[0], "last": vectors[-1]}[self.pooling]
            length = np.linalg.norm(vector)
            yield vector / max(float(length), 1e-12) if self.normalize else vector
