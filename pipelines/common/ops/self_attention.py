"""Attention of whole texts, in which every token sees every other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipelines.common.ops.neutral import neutral_operator
from pipelines.common.ops.value import Spec

if TYPE_CHECKING:
    from torch import Tensor


def _shape(query: Spec, **_: Any) -> Spec:
    return query


@neutral_operator("SelfAttention", _shape)
def self_attention(
    query: Tensor, key: Tensor, value: Tensor, head_dim: int, scale: float
) -> Tensor:
    """Mixes the values of each text by how its keys fit to its queries.

    Source: Vaswani et al. 2017, arXiv:1706.03762.

    Args:
        query: ``[batch, sequence, heads * head_dim]``; none of it is padding.
        key: Like `query`.
        value: Like `query`.
        head_dim: Elements of one head.
        scale: Factor on the scores.
    """
    queries, keys, values = (
        x.unflatten(-1, (-1, head_dim)).transpose(1, 2) for x in (query, key, value)
    )
    weights = (queries @ keys.transpose(-1, -2) * scale).softmax(-1)
    return (weights @ values).transpose(1, 2).flatten(-2)
