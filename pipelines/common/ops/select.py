"""Vectors of chosen positions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.common.ops.neutral import neutral_operator
from pipelines.common.ops.value import Spec

if TYPE_CHECKING:
    from torch import Tensor


def _shape(x: Spec, wanted: Spec) -> Spec:
    return x.with_shape(*wanted.shape, x.shape[-1])


@neutral_operator("Select", _shape)
def select(x: Tensor, wanted: Tensor) -> Tensor:
    """The vectors at some places of each sequence.

    Args:
        x: ``[batch, sequence, width]``.
        wanted: ``[batch, wanted]`` int64, each below `sequence`.

    Returns:
        ``[batch, wanted, width]``.
    """
    return x.gather(1, wanted.unsqueeze(-1).expand(-1, -1, x.shape[-1]))
