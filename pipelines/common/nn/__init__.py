"""Layers on the neutral operators: what a decoder's `model.py` is put together from."""

from pipelines.common.nn.decoder import Block, Decoder
from pipelines.common.nn.experts import Experts, SharedExpert, feed_forward
from pipelines.common.nn.layers import (
    Attention,
    Embedding,
    Linear,
    RMSNorm,
    SwiGLU,
    fused,
    projection,
)
from pipelines.common.nn.module import Module, Parameter, parameter
from pipelines.common.nn.step import KVState, Step

__all__ = [
    "Attention",
    "Block",
    "Decoder",
    "Embedding",
    "Experts",
    "KVState",
    "Linear",
    "Module",
    "Parameter",
    "RMSNorm",
    "SharedExpert",
    "Step",
    "SwiGLU",
    "feed_forward",
    "fused",
    "parameter",
    "projection",
]
