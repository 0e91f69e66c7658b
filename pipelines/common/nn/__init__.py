"""Layers on the neutral operators: what a decoder's `model.py` is put together from."""

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
