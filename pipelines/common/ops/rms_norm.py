"""Root-mean-square normalization."""

from __future__ import annotations

import torch
from torch import Tensor

from pipelines.common.ops.neutral import neutral_operator


def _shape(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    return torch.empty_like(x)


@neutral_operator("RMSNorm", _shape)
def rms_norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """``x / sqrt(mean(x²) + epsilon) * weight`` over the last dimension.

    Source: Zhang and Sennrich 2019, arXiv:1910.07467.

    Args:
        x: ``[..., width]``.
        weight: ``[width]``.
        epsilon: Added to the mean square.
    """
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + epsilon) * weight
