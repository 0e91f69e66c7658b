"""The pipeline of an encoder: from a model file to vectors of texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.common.checkpoints.tokenizer_source import MODEL
from pipelines.common.decoder.keys import check_keys
from pipelines.common.encoder.config import EncoderConfig, encoder_config
from pipelines.common.errors import (
    ModelFileError,
    TargetError,
    TokenizerError,
    UsageError,
    quoted,
)
from pipelines.common.export.manifest import is_exported
from pipelines.common.models.family import NetworkFamily
from pipelines.common.models.model import OpenedModel
from pipelines.common.program.encoder import EncoderTarget, TextEncoder
from pipelines.common.progress import Progress
from pipelines.common.text.word_pieces import WordPieces
from pipelines.common.text_generation import Lookup, ModelOptions

POOLINGS = {"mean": 1, "cls": 2, "last": 3}
"""What makes one vector of those of a text's tokens, with llama.cpp's numbers for it."""


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

    def start(self) -> TextEncoder:
        """Makes it run on the target asked for.

        Raises:
            TargetError: The target runs no encoders; and see `Target.start`.
        """
        target = self.target
        if not isinstance(target, EncoderTarget):
            raise TargetError(
                f"target {self.options.target} runs no encoders, which {self.pipeline} is one of;"
                " use `target` cpu"
            )
        return target.start_encoder(self.deployment(slots=1, max_length=self.config.context_length))


class EncoderPipeline(NetworkFamily):
    """Runs the encoders of one family."""

    def open(self, options: ModelOptions, registry: Lookup, progress: Progress) -> EncoderModel:
        """Opens and validates the model file and its tokenizer.

        Raises:
            UsageError: No model file is given, or the target is unknown.
            ModelFileError: The file is not one that this pipeline can run.
            TokenizerError: Its tokenizer cannot be built.
        """
        path = options.model_path
        if path is None:
            raise UsageError(f"{self.name} comes with no model; name a file with `model_path`")
        if is_exported(path):
            raise UsageError(
                f"{path} is an exported folder; {self.name} runs models as they are published"
            )
        file = registry.opener(path, options.weights)(path)
        architecture = self.architecture_of(file, registry)
        config = encoder_config(file, architecture)
        check_keys(file, architecture, config, progress.notice, self.ignored)
        cache = options.cache(progress.notice)
        program = self.program(file, config, options, cache, registry, progress)
        tokenizer = file.tokenizer(cache, progress.notice, registry.tokenizer)
        if not isinstance(tokenizer, WordPieces):
            kind = file.metadata.string(MODEL)
            raise TokenizerError(
                f"{path}: the tokenizer is of the kind {quoted(kind)}; encoders have 'bert'"
            )
        if tokenizer.vocab_size > config.vocabulary:
            raise ModelFileError(
                f"{path}: the tokenizer has {tokenizer.vocab_size} tokens, the embedding"
                f" {config.vocabulary} rows"
            )
        if program.weights.notice:
            progress.notice(program.weights.notice)
        packages = registry.packages
        return EncoderModel(
            pipeline=self.name,
            program=program,
            options=options,
            registry=registry,
            progress=progress,
            load_packages=lambda: packages.of_model(options, progress, self.name),
            config=config,
            tokenizer=tokenizer,
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
