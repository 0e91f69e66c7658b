"""Layer normalization."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.common.ops.neutral import neutral_operator

if TYPE_CHECKING:
    from torch import Tensor


@neutral_operator("LayerNorm", lambda x, **_: x)
def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, epsilon: float) -> Tensor:
    """``(x - mean(x)) / sqrt(variance(x) + epsilon) * weight + bias`` over the last dimension.

    Source: Ba et al. 2016, arXiv:1607.06450.

    Args:
        x: ``[..., width]``.
        weight: ``[width]``.
        bias: ``[width]``.
        epsilon: Added to the variance.
    """
    from torch.nn import functional

    return functional.layer_norm(x, weight.shape, weight, bias, epsilon)
