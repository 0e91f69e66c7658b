"""Product with a weight matrix."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from pipelines.common.ops.neutral import neutral_operator


def _shape(x: Tensor, weight: Tensor) -> Tensor:
    return x.new_empty((*x.shape[:-1], weight.shape[0]))


@neutral_operator("Linear", _shape)
def linear(x: Tensor, weight: Tensor) -> Tensor:
    """``x @ weight.T``.

    The weight's encoding belongs to the model file, not to the operator: a target lowers one
    `Linear` to as many kernels as there are encodings.

    Args:
        x: ``[..., in]``.
        weight: ``[out, in]``.

    Returns:
        ``[..., out]``.
    """
    return F.linear(x, weight)
