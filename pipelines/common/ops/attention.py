"""Causal grouped-query attention over a KV state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipelines.common.ops.neutral import neutral_operator
from pipelines.common.ops.value import Spec

if TYPE_CHECKING:
    from torch import Tensor


def _shape(query: Spec, past_key: Spec, past_value: Spec, **_: Any) -> tuple[Spec, Spec, Spec]:
    return query, past_key, past_value


@neutral_operator("Attention", _shape)
def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    past_key: Tensor,
    past_value: Tensor,
    past: Tensor,
    total: Tensor,
    head_dim: int,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Appends keys and values to the KV state and attends to it causally.

    The state is opaque to the model: it passes `past_key` and `past_value` on and hands back what
    it gets. The layout below is the reference's; a target may keep another.

    Source: Ainslie et al. 2023, arXiv:2305.13245.

    Args:
        query: ``[batch, sequence, heads * head_dim]``.
        key: ``[batch, sequence, kv_heads * head_dim]``.
        value: Like `key`.
        past_key: ``[batch, kv_heads, capacity, head_dim]``, row ``b`` filled up to ``past[b]``.
        past_value: Like `past_key`.
        past: ``[batch]`` int32, tokens in the state before this call.
        total: ``[batch]`` int32, tokens in it afterwards; a row shorter than ``past + sequence`` is
            padded on the right, and what comes out for its padding has no meaning.
        head_dim: Elements of one head.
        scale: Factor on the scores.

    Returns:
        The mixed values, shaped like `query`, and the two new halves of the state.
    """
    everything = past_key.shape[2] + query.shape[1]  # no token looks back as far
    return window_attention(
        query, key, value, past_key, past_value, past, total, head_dim, scale, everything
    )


@neutral_operator("WindowAttention", _shape)
def window_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    past_key: Tensor,
    past_value: Tensor,
    past: Tensor,
    total: Tensor,
    head_dim: int,
    scale: float,
    window: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """`attention` that looks back over no more than a window of tokens.

    It is an operator of its own, so that no rule for `Attention` takes it and sees too much.

    Source: Beltagy et al. 2020, arXiv:2004.05150.

    Args:
        query: See `attention`, as for all but the last.
        key: Likewise.
        value: Likewise.
        past_key: Likewise.
        past_value: Likewise.
        past: Likewise.
        total: Likewise.
        head_dim: Likewise.
        scale: Likewise.
        window: Tokens that each token sees, itself included; at least 1.
    """
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    queries = query.unflatten(-1, (-1, head_dim)).transpose(1, 2)
    keys = key.unflatten(-1, (-1, head_dim)).transpose(1, 2)
    values = value.unflatten(-1, (-1, head_dim)).transpose(1, 2)
    sequence, capacity = query.shape[1], past_key.shape[2]

    new_key, new_value = past_key.clone(), past_value.clone()
    for row, (start, stop) in enumerate(zip(past.tolist(), total.tolist(), strict=True)):
        new_key[row, :, start:stop] = keys[row, :, : stop - start]
        new_value[row, :, start:stop] = values[row, :, : stop - start]

    position = past[:, None] + torch.arange(sequence, device=query.device)
    slots, last = torch.arange(capacity, device=query.device), position[:, :, None]
    visible = (slots <= last) & (slots > last - window)
    mixed = scaled_dot_product_attention(
        queries, new_key, new_value, attn_mask=visible[:, None], scale=scale, enable_gqa=True
    )
    return mixed.transpose(1, 2).flatten(-2), new_key, new_value
