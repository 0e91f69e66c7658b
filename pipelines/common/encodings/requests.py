"""What users can ask the big matrices of a model to run in."""

from __future__ import annotations

from typing import Final

from pipelines.common.encodings import ENCODINGS

REQUESTS: Final = ("q4_0", "q8_0", "float32", "auto")
"""Their names; ``auto`` is as they are stored."""


def unknown_request(name: str) -> str:
    """Why a name cannot be asked for, and what can be."""
    reason = "files in it run as they are, and nothing is converted to it"
    problem = f"{name}: {reason}" if name in ENCODINGS else f"unknown encoding {name!r}"
    *most, last = REQUESTS
    return f"{problem}; expected {', '.join(most)}, or {last} for what a file has"
