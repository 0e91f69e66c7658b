"""The numbers of a decoder, read from the metadata of a checkpoint."""

from __future__ import annotations

import re
from typing import TypeVar

from pipelines.common.checkpoints.checkpoint import Checkpoint
from pipelines.common.decoder.config import DecoderConfig
from pipelines.common.decoder.numbers import EXPERT_WIDTH, keys, own_numbers
from pipelines.common.decoder.rope import read_rope
from pipelines.common.errors import ModelFileError

C = TypeVar("C", bound=DecoderConfig)

EMBEDDING = "token_embd.weight"
"""Tensor of the token embedding, whose rows are the vocabulary."""


_BIAS = re.compile(r"blk\.0\.(\w+)\.bias")

_TENSORS_A_BLOCK = 6
"""Fewer than any decoder's block has."""


def decoder_config(file: Checkpoint, architecture: str, kind: type[C]) -> C:
    """Reads the keys that GGUF specifies for `architecture`, and those that `kind` adds.

    Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md

    Raises:
        ModelFileError: A key is missing, of the wrong type, out of range or contradicts
            another.
    """
    metadata, sizes = file.metadata, _Sizes(file, architecture)
    layers = sizes.one("block_count")
    if layers * _TENSORS_A_BLOCK > len(file.tensors):
        # Refused before a weight table of that many blocks is made.
        raise ModelFileError(
            f"{file.path}: metadata says {layers} blocks, but the file has only"
            f" {len(file.tensors)} tensors"
        )
    hidden_size = sizes.one("embedding_length")
    heads = sizes.of_blocks("attention.head_count", layers)
    if EMBEDDING not in file.tensors:
        raise ModelFileError(f"{file.path}: tensor '{EMBEDDING}' is missing; nothing can run")
    if f"{architecture}.attention.key_length" not in metadata and hidden_size % heads:
        raise ModelFileError(
            f"{file.path}: a width of {hidden_size} cannot be divided by {heads} heads"
        )
    head_dim = sizes.one("attention.key_length", max(1, hidden_size // heads))
    value_dim = sizes.one("attention.value_length", head_dim)
    rotated = sizes.one("rope.dimension_count", head_dim)
    if head_dim % 2 or rotated % 2 or rotated > head_dim:
        raise ModelFileError(
            f"{file.path}: key length {head_dim} and rotary dimensions {rotated}; expected even"
            " numbers, and no more elements rotated than a key has"
        )
    # Without the key there are as many as heads, unless the tensors say that it is missing.
    key = file.tensors.get("blk.0.attn_k.weight")
    fewer = key is not None and key.shape[0] < heads * head_dim
    kv_heads = sizes.of_blocks("attention.head_count_kv", layers, default=None if fewer else heads)
    if heads % kv_heads:
        raise ModelFileError(
            f"{file.path}: {heads} attention heads cannot be shared out among"
            f" {kv_heads} key-value heads; the first must be a multiple of the second"
        )
    norm = f"{architecture}.attention.layer_norm_epsilon"  # of families without RMS norms
    of_rms = f"{architecture}.attention.layer_norm_rms_epsilon"
    epsilon = metadata.number(norm if norm in metadata and of_rms not in metadata else of_rms)
    if not 0 < epsilon < 1:
        raise ModelFileError(
            f"{file.path}: norm epsilon {epsilon}; expected a number between 0 and 1"
        )
    context_length = sizes.one("context_length")
    scale = metadata.number(f"{architecture}.attention.scale", 0.0)  # 0 says nothing
    if not 0 <= scale < 1e18:
        raise ModelFileError(
            f"{file.path}: metadata '{architecture}.attention.scale' is {scale}; expected a"
            " positive number"
        )
    own = own_numbers(file, architecture, kind)
    # Where all networks are experts, a file may have only their width.
    width = next((own.get(name) for name, k in keys(kind).items() if k.name == EXPERT_WIDTH), None)
    config = kind(
        vocabulary=file.tensors[EMBEDDING].shape[0],
        context_length=context_length,
        hidden_size=hidden_size,
        intermediate_size=sizes.of_blocks("feed_forward_length", layers, default=width or None),
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        norm_epsilon=epsilon,
        rope=read_rope(file, architecture, rotated, context_length),
        interleaved=file.interleaved,
        attention_factor=scale * head_dim**0.5 if scale else 1.0,
        biases=tuple(sorted(m[1] for m in map(_BIAS.fullmatch, file.tensors) if m)),
        tied="output.weight" not in file.tensors,
        value_dim=0 if value_dim == head_dim else value_dim,
        **own,
    )
    for problem in config.problems():
        raise ModelFileError(f"{file.path}: metadata cannot be right: {problem}")
    return config


class _Sizes:
    """Reads keys of an architecture that have to be positive 32-bit numbers."""

    def __init__(self, file: Checkpoint, architecture: str) -> None:
        self._file = file
        self._architecture = architecture

    def one(self, key: str, default: int | None = None) -> int:
        """What a key says; without a default, it has to be there."""
        name, metadata = f"{self._architecture}.{key}", self._file.metadata
        value = metadata.integer(name) if default is None else metadata.integer(name, default)
        return self._checked(name, value)

    def of_blocks(self, key: str, layers: int, default: int | None = None) -> int:
        """What a key says that may be an array with a number for each block."""
        name = f"{self._architecture}.{key}"
        length = self._file.metadata.length(name)
        if length is None:
            return self.one(key, default)
        values = self._file.metadata.integers(name) if length == layers else []
        if len(set(values)) != 1:
            raise ModelFileError(
                f"{self._file.path}: metadata '{name}' is the"
                f" {self._file.metadata.describe(name)}; expected the same number for each of"
                f" {layers} blocks, models whose blocks differ cannot be run"
            )
        return self._checked(name, values[0])

    def _checked(self, name: str, value: int) -> int:
        if not 0 < value < 2**31:
            raise ModelFileError(
                f"{self._file.path}: metadata '{name}' is {value}; expected a positive 32-bit"
                " number"
            )
        return value
