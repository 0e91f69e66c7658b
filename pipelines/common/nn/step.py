"""What travels through a decoder's layers beside the activations."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor


class Step(NamedTuple):
    """Where this call's tokens stand in their sequences.

    Attributes:
        past: ``[batch]`` int32, tokens in each row's KV state before this call.
        total: ``[batch]`` int32, tokens in it afterwards.
        cos: ``[positions, head_dim / 2]``, cosines of the rotary angles.
        sin: ``[positions, head_dim / 2]``, sines of the rotary angles.
    """

    past: Tensor
    total: Tensor
    cos: Tensor
    sin: Tensor


class KVState(NamedTuple):
    """One layer's keys and values so far, in whatever layout the target keeps them."""

    key: Tensor
    value: Tensor
