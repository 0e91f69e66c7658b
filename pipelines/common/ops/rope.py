"""Rotary position embedding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipelines.common.ops.neutral import neutral_operator
from pipelines.common.ops.value import Spec

if TYPE_CHECKING:
    from torch import Tensor


def _shape(x: Spec, **_: Any) -> Spec:
    return x


@neutral_operator("RoPE", _shape)
def rope(
    x: Tensor, past: Tensor, cos: Tensor, sin: Tensor, head_dim: int, interleaved: int
) -> Tensor:
    """Rotates pairs of each head's elements by an angle that grows with the token's position.

    Source: Su et al. 2021, arXiv:2104.09864.

    Args:
        x: ``[batch, sequence, heads * head_dim]``; token ``s`` of row ``b`` is at ``past[b] + s``.
        past: ``[batch]`` int32, tokens that come before this call's.
        cos: ``[positions, dims / 2]``; the first `dims` elements of a head are rotated.
        sin: ``[positions, dims / 2]``.
        head_dim: Elements of one head.
        interleaved: 1 pairs elements ``2i`` and ``2i + 1`` (Meta, GGUF's `llama`), 0 pairs ``i``
            and ``i + dims / 2`` (GPT-NeoX, Hugging Face).
    """
    import torch

    position = past[:, None] + torch.arange(x.shape[1], device=x.device)
    cos = cos[position][:, :, None]
    sin = sin[position][:, :, None]
    dims = 2 * cos.shape[-1]
    heads, kept = x.unflatten(-1, (-1, head_dim)).split((dims, head_dim - dims), dim=-1)
    if interleaved:
        real, imaginary = heads[..., 0::2], heads[..., 1::2]
    else:
        real, imaginary = heads.chunk(2, dim=-1)
    rotated = (real * cos - imaginary * sin, real * sin + imaginary * cos)
    join = torch.stack(rotated, dim=-1).flatten(-2) if interleaved else torch.cat(rotated, dim=-1)
    return torch.cat((join, kept), dim=-1).flatten(-2)
