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
    x: Spec,
    logits: Spec,
    gate: Spec,
    up: Spec,
    down: Spec,
    used: int,
    routing: str,
    gate_bias: Spec | None = None,
    up_bias: Spec | None = None,
    down_bias: Spec | None = None,
    **_: Any,
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
    biases = [None if bias is None else bias.shape for bias in (gate_bias, up_bias, down_bias)]
    if biases not in ([None] * 3, [(count, inner), (count, inner), (count, width)]):
        raise ValueError(
            f"biases of {', '.join(map(str, biases))} do not go with experts of {gate.shape};"
            f" expected none, or ({count}, {inner}) twice and ({count}, {width})"
        )
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
    gate_bias: Tensor | None = None,
    up_bias: Tensor | None = None,
    down_bias: Tensor | None = None,
    alpha: float = 1.0,
    limit: float = 0.0,
    offset: float = 0.0,
) -> Tensor:
    """The weighted sum of the gated networks that each token's largest logits choose.

    An expert makes ``down(g * sigmoid(alpha * g) * (u + offset))`` of ``g = gate(x)`` and ``u =
    up(x)``, which is ``down(silu(gate(x)) * up(x))`` where no other numbers are given. Of equal
    logits that of the lower index is the larger one.

    Source: Shazeer et al. 2017, arXiv:1701.06538; Jiang et al. 2024, arXiv:2401.04088; biases and
    the gate's numbers: gpt-oss, arXiv:2508.10925.

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
        gate_bias: ``[experts, inner]``, added to what `gate` makes; all three biases or none.
        up_bias: Likewise of `up`.
        down_bias: Likewise of `down`, ``[experts, hidden]``.
        alpha: Factor inside of the sigmoid.
        limit: What ``g`` is at most, and ``u`` in either direction; 0 for no such.
        offset: What is added to ``u``.

    Returns:
        ``[batch, sequence, hidden]``.
    """
    import torch
    from torch.nn.functional import linear

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

        def product(x: Tensor, matrices: Tensor, bias: Tensor | None, of: int = expert) -> Tensor:
            return linear(x, matrices[of], None if bias is None else bias[of])

        *token, place = (chosen == expert).nonzero(as_tuple=True)
        given = x[tuple(token)]
        g, u = product(given, gate, gate_bias), product(given, up, up_bias)
        if limit:
            g, u = g.clamp(max=limit), u.clamp(-limit, limit)
        made = product(g * (alpha * g).sigmoid() * (u + offset), down, down_bias)
        mixed[tuple(token)] += weights[(*token, place)][:, None] * made
    return mixed
