"""The numbers of a decoder, whatever they were read from."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, fields

from pipelines.common.rotary.rope import Rope


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
        head_dim: Elements of one head of queries, and of keys.
        norm_epsilon: Of every normalization.
        rope: The rotary embedding of queries and keys.
        interleaved: Which elements a rotation pairs, see `pipelines.common.ops.rope`; that is in
            the order of the rows of queries and keys, and so depends on who has written them.
        attention_factor: What attention scores are multiplied by beside ``head_dim ** -0.5``.
        biases: Matrices of a layer that have a bias, by the names of their tensors: ``attn_q``.
        tied: Whether the output matrix is the embedding.
        value_dim: Elements of one head of values; 0 for `head_dim`.
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
    rope: Rope
    interleaved: bool = False
    attention_factor: float = 1.0
    biases: tuple[str, ...] = ()
    tied: bool = False
    value_dim: int = 0

    @property
    def attention_scale(self) -> float:
        """What the products of queries and keys are multiplied by."""
        return self.head_dim**-0.5 * self.attention_factor

    @property
    def query_size(self) -> int:
        """Elements of all query heads."""
        return self.heads * self.head_dim

    @property
    def key_size(self) -> int:
        """Elements of all key heads."""
        return self.kv_heads * self.head_dim

    @property
    def value_size(self) -> int:
        """Elements of all value heads."""
        return self.kv_heads * (self.value_dim or self.head_dim)

    @property
    def mixed_size(self) -> int:
        """Elements of what all query heads make of the values."""
        return self.heads * (self.value_dim or self.head_dim)

    def problems(self) -> Iterator[str]:
        """What no decoder can have, wherever the dimensions were read from.

        Numbers that have to be given are positive; what has a default may be 0 as well.
        """
        yield from self.rope.problems()
        for field in fields(self):
            value = getattr(self, field.name)
            largest = math.inf if isinstance(value, float) else 2**31
            if type(value) in (int, float) and field.default is MISSING and not 0 < value < largest:
                yield f"{field.name} is {value}, expected a positive 32-bit number"
                return
        if not 0 <= self.value_dim < 2**31:
            yield f"value_dim is {self.value_dim}, expected a 32-bit number, or 0"
        if self.head_dim % 2 or self.heads % self.kv_heads:
            yield f"there are {self.heads} heads of {self.head_dim} on {self.kv_heads}"
        if self.rope.dims > self.head_dim:
            yield f"RoPE rotates {self.rope.dims} elements of heads of {self.head_dim}"
