"""Sizes that runners with a KV state in place have in common."""

from __future__ import annotations


def capacity(max_length: int) -> int:
    """Tokens that the KV state of a slot has room for: kernels may work on 16 at a time."""
    return -(-max_length // 16) * 16
