"""Causal grouped-query attention over a KV state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipelines.common.ops.neutral import neutral_operator
from pipelines.common.ops.value import Spec

if TYPE_CHECKING:
    from torch import Tensor


def _shape(
    query: Spec, past_key: Spec, past_value: Spec, head_dim: int, value_dim: int, **_: Any
) -> tuple[Spec, Spec, Spec]:
    *places, width = query.shape
    if value_dim:
        assert isinstance(width, int)
        width = width // head_dim * value_dim
    return query.with_shape(*places, width), past_key, past_value


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
    sinks: Tensor | None = None,
    window: int = 0,
    cap: float = 0.0,
    value_dim: int = 0,
) -> tuple[Tensor, Tensor, Tensor]:
    """Appends keys and values to the KV state and attends to it causally.

    The state is opaque to the model: it passes `past_key` and `past_value` on and hands back what
    it gets. The layout below is the reference's; a target may keep another.

    Source: Ainslie et al. 2023, arXiv:2305.13245. Windows: Beltagy et al. 2020, arXiv:2004.05150;
    caps: Gemma 2, arXiv:2408.00118; sinks: gpt-oss, arXiv:2508.10925.

    Args:
        query: ``[batch, sequence, heads * head_dim]``.
        key: ``[batch, sequence, kv_heads * head_dim]``.
        value: ``[batch, sequence, kv_heads * value_dim]``.
        past_key: ``[batch, kv_heads, capacity, head_dim]``, row ``b`` filled up to ``past[b]``.
        past_value: ``[batch, kv_heads, capacity, value_dim]``, likewise.
        past: ``[batch]`` int32, tokens in the state before this call.
        total: ``[batch]`` int32, tokens in it afterwards; a row shorter than ``past + sequence`` is
            padded on the right, and what comes out for its padding has no meaning.
        head_dim: Elements of one head of queries, and of keys.
        scale: Factor on the scores.
        sinks: ``[heads]``, a score of each head that has a share in the softmax and no value.
        window: Tokens that each token sees, itself included; 0 for all before it.
        cap: What scores, once scaled, come near and never reach: ``cap * tanh(score / cap)``; 0 for
            no such.
        value_dim: Elements of one head of values; 0 for as many as of keys.

    Returns:
        The mixed values, ``[batch, sequence, heads * value_dim]``, and the two new halves of the
        state.
    """
    import torch

    queries = query.unflatten(-1, (-1, head_dim)).transpose(1, 2)
    keys = key.unflatten(-1, (-1, head_dim)).transpose(1, 2)
    values = value.unflatten(-1, (-1, value_dim or head_dim)).transpose(1, 2)
    sequence, capacity = query.shape[1], past_key.shape[2]

    new_key, new_value = past_key.clone(), past_value.clone()
    for row, (start, stop) in enumerate(zip(past.tolist(), total.tolist(), strict=True)):
        new_key[row, :, start:stop] = keys[row, :, : stop - start]
        new_value[row, :, start:stop] = values[row, :, : stop - start]

    position = past[:, None] + torch.arange(sequence, device=query.device)
    slots, last = torch.arange(capacity, device=query.device), position[:, :, None]
    visible = slots <= last
    if window:
        visible &= slots > last - window
    group = queries.shape[1] // new_key.shape[1]
    scores = queries @ new_key.repeat_interleave(group, 1).transpose(-1, -2) * scale
    if cap:
        scores = cap * (scores / cap).tanh()
    scores = scores.masked_fill(~visible[:, None], -torch.inf)
    if sinks is not None:
        scores = torch.cat((scores, sinks[:, None, None].expand(*scores.shape[:3], 1)), dim=-1)
    weights = scores.softmax(-1)[..., :capacity]
    mixed = weights @ new_value.repeat_interleave(group, 1)
    return mixed.transpose(1, 2).flatten(-2), new_key, new_value
