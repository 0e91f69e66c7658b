"""Rows of a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.common.ops.neutral import neutral_operator
from pipelines.common.ops.value import Spec

if TYPE_CHECKING:
    from torch import Tensor


def _shape(tokens: Spec, weight: Spec) -> Spec:
    return weight.with_shape(*tokens.shape, weight.shape[1])


@neutral_operator("Embedding", _shape)
def embedding(tokens: Tensor, weight: Tensor) -> Tensor:
    """The rows of `weight` that `tokens` name.

    Args:
        tokens: ``[batch, sequence]`` int64, each below `rows`.
        weight: ``[rows, width]``, in any encoding.

    Returns:
        ``[batch, sequence, width]``.
    """
    from torch.nn import functional

    return functional.embedding(tokens, weight)
