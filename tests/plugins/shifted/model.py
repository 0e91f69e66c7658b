"""Llama, but that the weights of norms are stored less one; there are several ways to say that."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from torch import Tensor

from pipelines.common import ops
from pipelines.common.decoder.config import DecoderConfig
from pipelines.common.nn import Decoder, Linear, RMSNorm
from pipelines.llama3.model import block


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

    def forward(self, x: Tensor) -> Tensor:
        half = ops.rms_norm(x, self.weight, self.epsilon) / 2
        ones = np.ones(1, np.float32)
        return half + ops.rms_norm(x, ones + self.weight / 2, self.epsilon)


class BiasFirst(Linear):
    """A product that is added to its bias: to a native kernel it looks like a residual."""

    def forward(self, x: Tensor) -> Tensor:
        return self.bias + ops.linear(x, self.weight)


def build(config: DecoderConfig) -> Decoder:
    """The network with empty weights."""
    config = replace(config, interleaved=True)  # its files are written as Llama's are
    blocks = [block(config) for _ in range(config.layers)]
    for layer in blocks:
        layer.attention_norm = ShiftedNorm(config.hidden_size, config.norm_epsilon)
        layer.feed_forward_norm = SpelledNorm(config.hidden_size, config.norm_epsilon)
        layer.feed_forward.down = BiasFirst(config.intermediate_size, config.hidden_size, bias=True)
    decoder = Decoder(config.vocabulary, config.hidden_size, config.norm_epsilon, blocks)
    decoder.norm = SplitNorm(config.hidden_size, config.norm_epsilon)
    return decoder
