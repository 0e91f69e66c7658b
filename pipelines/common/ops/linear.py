"""Product with a weight matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.common.ops.neutral import neutral_operator
from pipelines.common.ops.value import Spec

if TYPE_CHECKING:
    from torch import Tensor


def _shape(x: Spec, weight: Spec) -> Spec:
    return x.with_shape(*x.shape[:-1], weight.shape[0])


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
    from torch.nn import functional

    return functional.linear(x, weight)
