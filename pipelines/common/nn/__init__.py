"""Layers on the neutral operators: what a decoder's `model.py` is put together from.

Whole networks      Decoder, Encoder; Network is what both have in common
their layers        Block, EncoderBlock
parts of layers     Attention, HeadNormAttention; SwiGLU, GeGLU; Experts, SharedExpert, feed_forward
single operators    Linear, Embedding, RMSNorm, LayerNorm; Rope is what Attention rotates by
weights             Parameter, parameter, fused, projection
a part of your own  Module
what goes through   Step and KVState: what the layers of one call share, and what attention keeps
what is declared    Interface, KVCache: what targets know of a network

``help(nn.Attention)`` says what one of them takes.
"""

from pipelines.common.nn.decoder import Block, Decoder
from pipelines.common.nn.encoder import Encoder, EncoderBlock
from pipelines.common.nn.experts import Experts, SharedExpert, feed_forward
from pipelines.common.nn.interface import Interface, KVCache
from pipelines.common.nn.layers import (
    Attention,
    Embedding,
    GeGLU,
    HeadNormAttention,
    LayerNorm,
    Linear,
    RMSNorm,
    SwiGLU,
    fused,
    projection,
)
from pipelines.common.nn.module import Module, Parameter, parameter
from pipelines.common.nn.network import Network
from pipelines.common.nn.step import KVState, Step
from pipelines.common.rotary.rope import Rope

__all__ = [
    "Attention",
    "Block",
    "Decoder",
    "Embedding",
    "Encoder",
    "EncoderBlock",
    "Experts",
    "GeGLU",
    "HeadNormAttention",
    "Interface",
    "KVCache",
    "KVState",
    "LayerNorm",
    "Linear",
    "Module",
    "Network",
    "Parameter",
    "RMSNorm",
    "Rope",
    "SharedExpert",
    "Step",
    "SwiGLU",
    "feed_forward",
    "fused",
    "parameter",
    "projection",
]
