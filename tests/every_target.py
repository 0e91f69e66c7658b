"""What is the same for all targets is tested on each; those that cannot run here are skipped."""

from __future__ import annotations

import pytest
from _pytest.mark import ParameterSet

from pipelines.common.registry.registry import Registry
from pipelines.common.registry.target_choice import looked_at

_FOUND = looked_at(Registry.discover())

_HALVES = {"coreml": 0.05}
"""How far logits of about one may be from float32's, on targets that know only float16."""


def every_target(*others: object) -> list[ParameterSet]:
    """Parameters of a test: each target, and what stands behind it."""
    return [
        pytest.param(
            name,
            *others,
            marks=pytest.mark.skipif(
                not found.here, reason=f"target {name} cannot run here: {found.reason}"
            ),
        )
        for name, found in _FOUND.items()
    ]


def float32_tolerance(target: str) -> float:
    """How far logits may be from the reference's when a model is asked for in float32."""
    return _HALVES.get(target, 1e-4)
