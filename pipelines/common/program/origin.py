"""What a program was made of."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Origin:
    """A checkpoint, and what was asked for of it.

    Attributes:
        path: Where it is, or was.
        fingerprint: Its `Checkpoint.fingerprint`.
        name: What it calls itself, if it does.
        encoding: The quantization encoding that was asked for.
    """

    path: str
    fingerprint: str
    name: str | None
    encoding: str
