"""Activations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipelines.common.ops.neutral import neutral_operator

if TYPE_CHECKING:
    from torch import Tensor


@neutral_operator("SiLU", lambda x: x)
def silu(x: Tensor) -> Tensor:
    """``x * sigmoid(x)`` (Elfwing et al. 2017, arXiv:1702.03118).

    Args:
        x: Any shape.
    """
    from torch.nn import functional

    return functional.silu(x)


def _like(x: Any, **_: Any) -> Any:
    return x


@neutral_operator("GELU", _like)
def gelu(x: Tensor, tanh: int = 0) -> Tensor:
    """``x * P(X <= x)`` for a standard normal X (Hendrycks and Gimpel 2016, arXiv:1606.08415).

    Args:
        x: Any shape.
        tanh: 1 for the approximation ``x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))``.
    """
    from torch.nn import functional

    return functional.gelu(x, approximate="tanh" if tanh else "none")
