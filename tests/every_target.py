"""The targets that can run on this machine: what is the same for all of them is tested on each."""

from __future__ import annotations

from pipelines.common.registry.registry import Registry
from pipelines.common.registry.target_choice import looked_at

HERE = tuple(name for name, found in looked_at(Registry.discover()).items() if found.here)

_HALVES = {"coreml": 0.05}
"""How far logits of about one may be from float32's, on targets that know only float16."""


def float32_tolerance(target: str) -> float:
    """How far logits may be from the reference's when a model is asked for in float32."""
    return _HALVES.get(target, 1e-4)
