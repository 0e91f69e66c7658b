"""A mixture of feed-forward networks, of which a router chooses some for each token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from pipelines.common.ops.neutral import neutral_operator
from pipelines.common.ops.value import Spec

if TYPE_CHECKING:
    from torch import Tensor

Routing: TypeAlias = Literal["softmax_topk", "topk_softmax", "sigmoid"]
"""What makes weights of a router's logits: a softmax over those of all experts, or of the chosen
ones; or the sigmoid of each by itself."""

ROUTINGS: tuple[Routing, ...] = get_args(Routing)


def _shape(
    x: Spec, logits: Spec, gate: Spec, up: Spec, down: Spec, used: int, routing: str, **_: Any
) -> Spec:
    (count, inner, width), experts = gate.shape, logits.shape[-1]
    if (
        up.shape != gate.shape
        or down.shape != (count, width, inner)
        or (experts, x.shape[-1]) != (count, width)
    ):
        raise ValueError(
            f"vectors of {x.shape[-1]} and {experts} logits do not go with experts of"
            f" {gate.shape}, {up.shape} and {down.shape}"
        )
    if routing not in ROUTINGS:
        raise ValueError(f"no routing is called {routing!r}; expected {', '.join(ROUTINGS)}")
    assert isinstance(count, int)
    if not 1 <= used <= count:
        raise ValueError(f"{used} of {count} experts cannot be used")
    return x


@neutral_operator("Experts", _shape)
def experts(
    x: Tensor,
    logits: Tensor,
    gate: Tensor,
    up: Tensor,
    down: Tensor,
    used: int,
    routing: str,
    normalize: int,
    scale: float,
) -> Tensor:
    """The weighted sum of the gated networks that each token's largest logits choose.

    An expert makes ``down(silu(gate(x)) * up(x))``. Of equal logits that of the lower index is the
    larger one.

    Source: Shazeer et al. 2017, arXiv:1701.06538; Jiang et al. 2024, arXiv:2401.04088.

    Args:
        x: ``[batch, sequence, hidden]``.
        logits: The router's, ``[batch, sequence, experts]``.
        gate: ``[experts, inner, hidden]``, in any encoding.
        up: Like `gate`.
        down: ``[experts, hidden, inner]``, in any encoding.
        used: Experts that a token is given to.
        routing: One of `ROUTINGS`.
        normalize: 1 divides the weights of a token's experts by their sum.
        scale: Factor on the weights.

    Returns:
        ``[batch, sequence, hidden]``.
    """
    import torch
    from torch.nn import functional

    chosen = logits.argsort(dim=-1, descending=True, stable=True)[..., :used]
    if routing == "topk_softmax":
        weights = logits.gather(-1, chosen).softmax(-1)
    else:
        scores = logits.sigmoid() if routing == "sigmoid" else logits.softmax(-1)
        weights = scores.gather(-1, chosen)
    if normalize:
        weights = weights / weights.sum(-1, keepdim=True)
    weights = weights * scale
    mixed = torch.zeros_like(x)
    for expert in chosen.unique().tolist():
        *token, place = (chosen == expert).nonzero(as_tuple=True)
        given = x[tuple(token)]
        inner = functional.silu(given @ gate[expert].T) * (given @ up[expert].T)
        mixed[tuple(token)] += weights[(*token, place)][:, None] * (inner @ down[expert].T)
    return mixed
