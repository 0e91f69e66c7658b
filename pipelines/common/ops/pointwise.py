"""Activations."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pipelines.common.ops.neutral import neutral_operator


def _shape(x: Tensor) -> Tensor:
    return torch.empty_like(x)


@neutral_operator("SiLU", _shape)
def silu(x: Tensor) -> Tensor:
    """``x * sigmoid(x)`` (Elfwing et al. 2017, arXiv:1702.03118)."""
    return F.silu(x)
