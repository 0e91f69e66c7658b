"""`Experts` as products with each expert's matrices, in every encoding."""

from __future__ import annotations

import itertools
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
from pipelines.common.op_check.examples import EXAMPLES, Examples
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


def _few(rule: Rule, examples: Examples) -> Rule:
    """With stacks in few encodings: what the other rule does with them in all, it does as well."""
    stacks = dict.fromkeys(("gate", "up", "down"), ("f32", "bf16", "q4_0"))
    return replace(rule, examples=examples, encodings={**rule.encodings, **stacks})


def _some(generator: np.random.Generator) -> Iterator[Mapping[str, Any]]:
    """A third of the examples, in which all sizes and all ways to route are."""
    return itertools.islice(EXAMPLES[patterns.experts](generator), 0, None, 3)


@pytest.mark.parametrize(
    "rule",
    [
        replace(PLAIN, examples=_some),
        _few(PLAIN, EXAMPLES[patterns.experts]),
        _few(ROUTED, _routed),
        _few(BIASED, _biased),
    ],
    ids=["plain in every encoding", "plain", "routed", "biased"],
)
def test_each_encoding_against_the_reference(rule: Rule) -> None:
    """Of equal logits, which examples have, the first are chosen."""
    package = LoadedPackage("generic", Path(), OpPackage("", rules={"cpu": (rule,)}))
    results = list(check(package))
    assert len(results) >= 3
    for result in results:
        assert result.problem is None, result
        exact = {result.encodings[name] for name in ("gate", "up", "down")} <= set(FLOATS)
        # Of blocks, the runtime rounds activations to int8.
        assert result.error < (1e-5 if exact else 0.03), result
