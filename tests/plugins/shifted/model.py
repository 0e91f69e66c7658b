"""Llama, but that the weights of norms are stored less one; there are several ways to say that."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from torch import Tensor

from pipelines.common import ops
from pipelines.common.decoder.config import DecoderConfig
from pipelines.common.nn import Block, Decoder, Linear, RMSNorm


class ShiftedNorm(RMSNorm):
    """A norm whose weight is computed."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.rms_norm(x, 1 + self.weight, self.epsilon)


class SpelledNorm(RMSNorm):
    """The same without the neutral operator."""

    def forward(self, x: Tensor) -> Tensor:
        mean = (x * x).mean(-1, keepdim=True)
        return x * (mean + self.epsilon).rsqrt() * (1 + self.weight)


class SplitNorm(RMSNorm):
    """The same with a weight that the neutral operator and a standard one use."""

    def __init__(self, width: int, epsilon: float, tensor: str) -> None:
        super().__init__(width, epsilon, tensor)
        self.ones = np.ones(1, np.float32)

    def forward(self, x: Tensor) -> Tensor:
        half = ops.rms_norm(x, self.weight, self.epsilon) / 2
        return half + ops.rms_norm(x, self.ones + self.weight / 2, self.epsilon)


class BiasFirst(Linear):
    """A product that is added to its bias: to a native kernel it looks like a residual."""

    def forward(self, x: Tensor) -> Tensor:
        return self.bias + ops.linear(x, self.weight)


def build(config: DecoderConfig) -> Decoder:
    config = replace(config, interleaved=True)  # its files are written as Llama's are
    width, epsilon = config.hidden_size, config.norm_epsilon
    blocks = [Block(config) for _ in range(config.layers)]
    for layer in blocks:
        layer.attention_norm = ShiftedNorm(width, epsilon, "attn_norm")
        layer.feed_forward_norm = SpelledNorm(width, epsilon, "ffn_norm")
        layer.feed_forward.down = BiasFirst(config.intermediate_size, width, "ffn_down", bias=True)
    decoder = Decoder(config, blocks)
    decoder.norm = SplitNorm(width, epsilon, "output_norm")
    return decoder
