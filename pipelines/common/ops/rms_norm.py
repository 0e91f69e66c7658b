"""Root-mean-square normalization."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.common.ops.neutral import neutral_operator

if TYPE_CHECKING:
    from torch import Tensor


@neutral_operator("RMSNorm", lambda x, **_: x)
def rms_norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """``x / sqrt(mean(x²) + epsilon) * weight`` over the last dimension.

    Source: Zhang and Sennrich 2019, arXiv:1910.07467.

    Args:
        x: ``[..., width]``.
        weight: ``[width]``.
        epsilon: Added to the mean square.
    """
    return x * (x.square().mean(-1, keepdim=True) + epsilon).rsqrt() * weight
