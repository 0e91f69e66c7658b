"""The neutral operators: what models are written in and what targets lower.

Each is a `torch.library.custom_op` whose reference implementation *is* its meaning, so a model made
of them runs eagerly and is the oracle of every target. In a graph they are nodes of `DOMAIN`.
"""

from pipelines.common.ops.attention import attention
from pipelines.common.ops.embedding import embedding
from pipelines.common.ops.linear import linear
from pipelines.common.ops.neutral import (
    DOMAIN,
    OPERATORS,
    NeutralOperator,
    neutral_operator,
    operator,
)
from pipelines.common.ops.pointwise import silu
from pipelines.common.ops.rms_norm import rms_norm
from pipelines.common.ops.rope import rope
from pipelines.common.ops.select import select

__all__ = [
    "DOMAIN",
    "OPERATORS",
    "NeutralOperator",
    "attention",
    "embedding",
    "linear",
    "neutral_operator",
    "operator",
    "rms_norm",
    "rope",
    "select",
    "silu",
]
