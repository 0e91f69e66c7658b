"""The numbers of an encoder, read from the metadata of a checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

from pipelines.common.checkpoints.checkpoint import Checkpoint
from pipelines.common.decoder.numbers import key, own_numbers
from pipelines.common.decoder.read import EMBEDDING
from pipelines.common.errors import ModelFileError

_MOST = 2**31 - 1


@dataclass(frozen=True)
class EncoderConfig:
    """Everything that a graph is built from; no weights, no file.

    Attributes:
        vocabulary: Token ids, from 0.
        context_length: Tokens of the longest text.
        hidden_size: Width of a token's vector.
        intermediate_size: Width inside the feed-forward network.
        layers: Number of blocks.
        heads: Heads of attention.
        norm_epsilon: Of every layer normalization.
        pooling: What makes one vector of those of a text's tokens, by llama.cpp's number
            (``llama_pooling_type``): 1 their mean, 2 the first, 3 the last; 0 says nothing.
        causal: Whether tokens see only what is before them, which no encoder here does.
    """

    vocabulary: int
    context_length: int = key("context_length", least=1, most=_MOST)
    hidden_size: int = key("embedding_length", least=1, most=_MOST)
    intermediate_size: int = key("feed_forward_length", least=1, most=_MOST)
    layers: int = key("block_count", least=1, most=4096)
    heads: int = key("attention.head_count", least=1, most=_MOST)
    norm_epsilon: float = key("attention.layer_norm_epsilon", least=1e-30, most=1)
    pooling: int = key("pooling_type", 0, least=0, most=3)
    causal: bool = key("attention.causal", default=False)

    @property
    def head_dim(self) -> int:
        """Elements of one head."""
        return self.hidden_size // self.heads

    def problems(self) -> Iterator[str]:
        """What no encoder can have."""
        if self.hidden_size % self.heads:
            yield f"a width of {self.hidden_size} cannot be divided by {self.heads} heads"
        if self.causal:
            yield "attention is causal, which is an encoder's never"


C = TypeVar("C", bound=EncoderConfig)


def encoder_config(file: Checkpoint, architecture: str, kind: type[C]) -> C:
    """Reads the keys of an architecture, and those that `kind` adds.

    Raises:
        ModelFileError: A key is missing, of the wrong type, out of range or contradicts another.
    """
    if EMBEDDING not in file.tensors:
        raise ModelFileError(f"{file.path}: tensor '{EMBEDDING}' is missing; nothing can run")
    config = kind(file.tensors[EMBEDDING].shape[0], **own_numbers(file, architecture, kind))
    for problem in config.problems():
        raise ModelFileError(f"{file.path}: metadata cannot be right: {problem}")
    if config.layers > len(file.tensors):
        raise ModelFileError(
            f"{file.path}: metadata says {config.layers} blocks, but the file has only"
            f" {len(file.tensors)} tensors"
        )
    return config
