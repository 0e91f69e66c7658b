"""Sizes that runners with a KV state in place have in common."""

from __future__ import annotations

PREFILL_CHUNK = 512
"""Most tokens of a prompt that are computed together: bounds the activations' memory."""


def capacity(max_length: int) -> int:
    """Tokens that the KV state of a slot has room for: kernels may work on 16 at a time."""
    return -(-max_length // 16) * 16
