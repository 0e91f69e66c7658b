"""Vectors of chosen positions."""

from __future__ import annotations

import torch
from torch import Tensor

from pipelines.common.ops.neutral import neutral_operator


def _shape(x: Tensor, wanted: Tensor) -> Tensor:
    return x.new_empty((*wanted.shape, x.shape[-1]))


@neutral_operator("Select", _shape)
def select(x: Tensor, wanted: Tensor) -> Tensor:
    """The vectors at some places of each sequence.

    Args:
        x: ``[batch, sequence, width]``.
        wanted: ``[batch, wanted]`` int64, each below `sequence`.

    Returns:
        ``[batch, wanted, width]``.
    """
    return torch.gather(x, 1, wanted.unsqueeze(-1).expand(-1, -1, x.shape[-1]))
