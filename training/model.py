"""Llama 3's architecture, sized to be trained on a desktop processor."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, scaled_dot_product_attention, silu


@dataclass(frozen=True)
class Dimensions:
    """The numbers that shape the network.

    The widths are multiples of 256, so that every block encoding of GGUF fits their rows.
    """

    vocabulary: int = 1536
    width: int = 256
    layers: int = 5
    heads: int = 8
    kv_heads: int = 4
    feed_forward: int = 768
    context: int = 512
    rope_base: float = 500_000.0
    norm_epsilon: float = 1e-5

    @property
    def head_width(self) -> int:
        """Width of one attention head."""
        return self.width // self.heads


class Attention(nn.Module):
    """Causal grouped-query attention with rotary positions on adjacent pairs.

    Pair ``i`` of a head is elements ``(2i, 2i + 1)``, the order in which Meta's checkpoints and
    GGUF files keep the rows of the query and key matrices.
    """

    def __init__(self, dims: Dimensions) -> None:
        super().__init__()
        self.dims = dims
        kv_width = dims.kv_heads * dims.head_width
        self.query = nn.Linear(dims.width, dims.width, bias=False)
        self.key = nn.Linear(dims.width, kv_width, bias=False)
        self.value = nn.Linear(dims.width, kv_width, bias=False)
        self.output = nn.Linear(dims.width, dims.width, bias=False)

    def forward(self, x: Tensor, cosine: Tensor, sine: Tensor, mask: Tensor) -> Tensor:
        """Attends within ``x``, shape ``[batch, sequence, width]``, where ``mask`` is true."""
        batch, sequence, width = x.shape

        def split(projected: Tensor) -> Tensor:
            return projected.view(batch, sequence, -1, self.dims.head_width).transpose(1, 2)

        query = rotate(split(self.query(x)), cosine, sine)
        key = rotate(split(self.key(x)), cosine, sine)
        value = split(self.value(x))
        mixed = scaled_dot_product_attention(query, key, value, mask, enable_gqa=True)
        return self.output(mixed.transpose(1, 2).reshape(batch, sequence, width))


class FeedForward(nn.Module):
    """SwiGLU."""

    def __init__(self, dims: Dimensions) -> None:
        super().__init__()
        self.gate = nn.Linear(dims.width, dims.feed_forward, bias=False)
        self.up = nn.Linear(dims.width, dims.feed_forward, bias=False)
        self.down = nn.Linear(dims.feed_forward, dims.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``[..., width]`` to ``[..., width]``."""
        return self.down(silu(self.gate(x)) * self.up(x))


class Block(nn.Module):
    """One pre-norm transformer layer."""

    def __init__(self, dims: Dimensions) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(dims.width, dims.norm_epsilon)
        self.attention = Attention(dims)
        self.feed_forward_norm = nn.RMSNorm(dims.width, dims.norm_epsilon)
        self.feed_forward = FeedForward(dims)

    def forward(self, x: Tensor, cosine: Tensor, sine: Tensor, mask: Tensor) -> Tensor:
        """Adds both residual branches to ``x``."""
        x = x + self.attention(self.attention_norm(x), cosine, sine, mask)
        return x + self.feed_forward(self.feed_forward_norm(x))


class Transformer(nn.Module):
    """Token ids in, next-token logits out; the output matrix is the embedding."""

    cosine: Tensor
    sine: Tensor

    def __init__(self, dims: Dimensions) -> None:
        super().__init__()
        self.dims = dims
        self.embedding = nn.Embedding(dims.vocabulary, dims.width)
        self.blocks = nn.ModuleList(Block(dims) for _ in range(dims.layers))
        self.norm = nn.RMSNorm(dims.width, dims.norm_epsilon)
        cosine, sine = rotary_table(dims)
        self.register_buffer("cosine", cosine, persistent=False)
        self.register_buffer("sine", sine, persistent=False)
        self._initialize()

    def _initialize(self) -> None:
        """Normal weights; those that write into the residual stream shrink with the depth."""
        for name, parameter in self.named_parameters():
            if parameter.ndim < 2:
                continue
            writes_residual = name.endswith(("output.weight", "down.weight"))
            deviation = 0.02 / (2 * self.dims.layers) ** 0.5 if writes_residual else 0.02
            nn.init.normal_(parameter, std=deviation)

    def forward(self, tokens: Tensor, documents: Tensor | None = None) -> Tensor:
        """Runs ``tokens``, shape ``[batch, sequence]``.

        Args:
            tokens: Token ids.
            documents: Number of the document that each token belongs to, shaped like ``tokens``;
                a token sees its own document alone. None where each sequence is one document.

        Returns:
            Logits, shape ``[batch, sequence, vocabulary]``.
        """
        sequence = tokens.shape[1]
        cosine, sine = self.cosine[:sequence], self.sine[:sequence]
        mask = torch.ones(sequence, sequence, dtype=torch.bool).tril()
        if documents is not None:
            mask = mask & (documents[:, None, :, None] == documents[:, None, None, :])
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x, cosine, sine, mask)
        return linear(self.norm(x), self.embedding.weight)


def rotary_table(dims: Dimensions) -> tuple[Tensor, Tensor]:
    """Cosines and sines of every position and pair, each ``[context, head_width / 2]``."""
    exponents = torch.arange(0, dims.head_width, 2, dtype=torch.float64) / dims.head_width
    positions = torch.arange(dims.context, dtype=torch.float64)
    angles = torch.outer(positions, dims.rope_base**-exponents)
    return angles.cos().float(), angles.sin().float()


def rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Turns adjacent pairs of ``x``, shape ``[batch, heads, sequence, head_width]``."""
    even, odd = x[..., 0::2], x[..., 1::2]
    turned = torch.stack((even * cosine - odd * sine, even * sine + odd * cosine), dim=-1)
    return turned.flatten(-2).to(x.dtype)
