"""Fuses `SiLU` and the product that follows it in a SwiGLU network into one kernel."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from pipelines.common.graph.rules import Emitter, Rule
from pipelines.common.program.package import OpPackage


def _gate(op: Any, gate: Any, up: Any) -> Any:
    return op.Mul(op.SiLU(gate), up)


def _emit(op: Emitter, gate: Any, up: Any) -> Any:
    return op.SiLUGate(gate, up, _domain="example.silu_gate")


def _examples(generator: np.random.Generator) -> Iterator[dict[str, Any]]:
    for shape in ((1, 1, 1), (2, 3, 101), (1, 67, 2048)):
        gate, up = generator.normal(0, 10, (2, *shape)).astype(np.float32)
        yield {"gate": gate, "up": up}


PACKAGE = OpPackage(
    summary="SiLU and the product after it in one kernel.",
    rules={"cpu": (Rule("SiLUGate", _gate, _emit, tolerance=1e-6, examples=_examples),)},
)
