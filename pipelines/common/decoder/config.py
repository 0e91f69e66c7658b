"""Dimensions of a decoder, read from a model file's metadata."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, fields

from pipelines.common.errors import ModelFileError
from pipelines.common.weights.model_file import ModelFile

EMBEDDING = "token_embd.weight"
"""Tensor of the token embedding, whose rows are the vocabulary."""


_TENSORS_A_BLOCK = 6
"""Fewer than any decoder's block has."""


@dataclass(frozen=True)
class DecoderConfig:
    """Everything that a graph is built from; no weights, no file.

    Attributes:
        vocabulary: Token ids, from 0.
        context_length: Tokens that the model was made for.
        hidden_size: Width of the residual stream.
        intermediate_size: Width inside the feed-forward network.
        layers: Number of blocks.
        heads: Query heads.
        kv_heads: Key and value heads; divides `heads`.
        head_dim: Elements of one head.
        norm_epsilon: Of every RMS normalization.
        rope_base: Base of the rotary frequencies (theta).
    """

    vocabulary: int
    context_length: int
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    norm_epsilon: float
    rope_base: float

    def problems(self) -> Iterator[str]:
        """What no decoder can have, wherever the dimensions were read from.

        Numbers that have to be given are positive; what has a default may be 0 as well.
        """
        for field in fields(self):
            value = getattr(self, field.name)
            largest = math.inf if isinstance(value, float) else 2**31
            if type(value) in (int, float) and field.default is MISSING and not 0 < value < largest:
                yield f"{field.name} is {value}, expected a positive 32-bit number"
                return
        if self.head_dim % 2 or self.heads % self.kv_heads:
            yield f"there are {self.heads} heads of {self.head_dim} on {self.kv_heads}"

    @classmethod
    def from_file(cls, file: ModelFile, architecture: str) -> DecoderConfig:
        """Reads the keys that GGUF specifies for `architecture`.

        Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md

        Raises:
            ModelFileError: A key is missing, of the wrong type, out of range or contradicts
                another.
        """
        metadata = file.metadata

        def size(key: str, default: int | None = None) -> int:
            name = f"{architecture}.{key}"
            value = metadata.integer(name) if default is None else metadata.integer(name, default)
            if not 0 < value < 2**31:
                raise ModelFileError(
                    f"{file.path}: metadata '{name}' is {value}; expected a positive 32-bit number"
                )
            return value

        hidden_size = size("embedding_length")
        heads = size("attention.head_count")
        kv_heads = size("attention.head_count_kv", heads)
        if EMBEDDING not in file.tensors:
            raise ModelFileError(f"{file.path}: tensor '{EMBEDDING}' is missing; nothing can run")
        rows = file.tensors[EMBEDDING].shape[0]
        vocabulary = size("vocab_size", rows)
        if vocabulary != rows:
            raise ModelFileError(
                f"{file.path}: metadata says {vocabulary} tokens, but '{EMBEDDING}' has {rows} rows"
            )
        if heads % kv_heads:
            raise ModelFileError(
                f"{file.path}: {heads} attention heads cannot be shared out among"
                f" {kv_heads} key-value heads; the first must be a multiple of the second"
            )
        if f"{architecture}.attention.key_length" not in metadata and hidden_size % heads:
            raise ModelFileError(
                f"{file.path}: a width of {hidden_size} cannot be divided by {heads} heads"
            )
        head_dim = size("attention.key_length", max(1, hidden_size // heads))
        value_dim = size("attention.value_length", head_dim)
        rotated = size("rope.dimension_count", head_dim)
        if not head_dim == value_dim == rotated or head_dim % 2:
            raise ModelFileError(
                f"{file.path}: key length {head_dim}, value length {value_dim} and rotary"
                f" dimensions {rotated}; expected one even number for all three"
            )
        epsilon = metadata.number(f"{architecture}.attention.layer_norm_rms_epsilon")
        base = metadata.number(f"{architecture}.rope.freq_base", 10000.0)
        if not 0 < epsilon < 1 or not 1 < base < 1e38:
            raise ModelFileError(
                f"{file.path}: RMS epsilon {epsilon} and RoPE base {base};"
                " expected an epsilon between 0 and 1 and a base between 1 and 1e38"
            )
        layers = size("block_count")
        if layers * _TENSORS_A_BLOCK > len(file.tensors):
            # Refused before a weight table of that many blocks is made.
            raise ModelFileError(
                f"{file.path}: metadata says {layers} blocks, but the file has only"
                f" {len(file.tensors)} tensors"
            )
        return cls(
            vocabulary=vocabulary,
            context_length=size("context_length"),
            hidden_size=hidden_size,
            intermediate_size=size("feed_forward_length"),
            layers=layers,
            heads=heads,
            kv_heads=kv_heads,
            head_dim=head_dim,
            norm_epsilon=epsilon,
            rope_base=base,
        )
