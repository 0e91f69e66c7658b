"""Rows of a table."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from pipelines.common.ops.neutral import neutral_operator


def _shape(tokens: Tensor, weight: Tensor) -> Tensor:
    return weight.new_empty((*tokens.shape, weight.shape[1]))


@neutral_operator("Embedding", _shape)
def embedding(tokens: Tensor, weight: Tensor) -> Tensor:
    """The rows of `weight` that `tokens` name.

    Args:
        tokens: ``[batch, sequence]`` int64, each below `rows`.
        weight: ``[rows, width]``, in any encoding.

    Returns:
        ``[batch, sequence, width]``.
    """
    return F.embedding(tokens, weight)
