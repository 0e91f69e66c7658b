"""`Experts` as products with each expert's matrices, in every encoding."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.common.encodings import FLOATS
from pipelines.common.graph import patterns
from pipelines.common.graph.rules import Rule
from pipelines.common.op_check.check import check
from pipelines.common.op_check.examples import EXAMPLES
from pipelines.common.ort import experts
from pipelines.common.program.package import LoadedPackage, OpPackage

ROUTED, BIASED, PLAIN = experts.RULES


def _routed(generator: np.random.Generator) -> Iterator[Mapping[str, Any]]:
    for example in EXAMPLES[patterns.experts](generator):
        logits = example["logits"]
        width = example["x"].shape[-1]
        router = generator.normal(0, width**-0.5, (logits.shape[-1], width))
        yield {name: value for name, value in example.items() if name != "logits"} | {
            "router": router.astype(np.float32)
        }


def _biased(generator: np.random.Generator) -> Iterator[Mapping[str, Any]]:
    for example in _routed(generator):
        bias = generator.normal(size=len(example["router"]))
        yield {**example, "bias": bias.astype(np.float32)}


@pytest.mark.parametrize(
    "rule",
    [PLAIN, replace(ROUTED, examples=_routed), replace(BIASED, examples=_biased)],
    ids=["plain", "routed", "biased"],
)
def test_each_encoding_against_the_reference(rule: Rule) -> None:
    """Of equal logits, which examples have, the first are chosen."""
    package = LoadedPackage("generic", Path(), OpPackage("", rules={"cpu": (rule,)}))
    results = list(check(package))
    assert len(results) > 6
    for result in results:
        assert result.problem is None, result
        exact = {result.encodings[name] for name in ("gate", "up", "down")} <= set(FLOATS)
        # Of blocks, the runtime rounds activations to int8.
        assert result.error < (1e-5 if exact else 0.03), result
