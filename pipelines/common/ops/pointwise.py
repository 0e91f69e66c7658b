"""Activations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.common.ops.neutral import neutral_operator

if TYPE_CHECKING:
    from torch import Tensor


@neutral_operator("SiLU", lambda x: x)
def silu(x: Tensor) -> Tensor:
    """``x * sigmoid(x)`` (Elfwing et al. 2017, arXiv:1702.03118)."""
    from torch.nn import functional

    return functional.silu(x)
