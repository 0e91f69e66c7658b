"""The neutral operators: what models are written in and what targets lower.

Each has a reference on torch tensors that *is* its meaning, so a model made of them runs eagerly
and is the oracle of every target. In a graph they are nodes of `DOMAIN`; that takes no torch.
"""

from pipelines.common.ops.attention import attention
from pipelines.common.ops.embedding import embedding
from pipelines.common.ops.experts import experts
from pipelines.common.ops.layer_norm import layer_norm
from pipelines.common.ops.linear import linear
from pipelines.common.ops.neutral import (
    DOMAIN,
    OPERATORS,
    NeutralOperator,
    neutral_operator,
    operator,
)
from pipelines.common.ops.pointwise import gelu, silu
from pipelines.common.ops.rms_norm import rms_norm
from pipelines.common.ops.rope import rope
from pipelines.common.ops.select import select
from pipelines.common.ops.self_attention import self_attention
from pipelines.common.ops.value import Spec

__all__ = [
    "DOMAIN",
    "OPERATORS",
    "NeutralOperator",
    "Spec",
    "attention",
    "embedding",
    "experts",
    "gelu",
    "layer_norm",
    "linear",
    "neutral_operator",
    "operator",
    "rms_norm",
    "rope",
    "select",
    "self_attention",
    "silu",
]
