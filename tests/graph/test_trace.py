"""What a pattern looks for, and when two look for the same."""

from __future__ import annotations

from typing import Any

import pytest

from pipelines.common.graph import patterns
from pipelines.common.graph.pattern_trace import collide, trace
from pipelines.common.graph.rules import Rule


def gated(op: Any, x: Any, gate: Any, up: Any) -> Any:
    return op.SiLU(op.Linear(x, gate)) * op.Linear(x, up)


def gated_in_other_words(op: Any, b: Any, a: Any, y: Any) -> Any:
    up = op.Linear(y, b)
    return op.Mul(op.SiLU(op.Linear(y, a)), up)


def test_operators_in_the_order_in_which_they_run() -> None:
    assert trace(patterns.rope_attention).operators == "RoPE + Attention"
    assert trace(gated).operators == "Linear + SiLU + Mul"
    assert trace(gated).parameters == ("x", "gate", "up")


def rule(pattern: Any, **encodings: tuple[str, ...]) -> Rule:
    return Rule("rule", pattern, lambda *_: None, encodings)


def two_of_three(op: Any, x: Any, epsilon: Any, weight: Any) -> Any:
    return op.RMSNorm(x, weight, epsilon=epsilon)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (rule(patterns.silu), rule(patterns.silu), True),
        (rule(patterns.silu), rule(lambda op, other: op.SiLU(other)), True),
        (rule(gated), rule(gated_in_other_words), True),
        (rule(patterns.rms_norm), rule(two_of_three), True),
        (rule(patterns.silu), rule(patterns.linear), False),
        (rule(patterns.rope_attention), rule(patterns.attention), False),
        (rule(gated), rule(lambda op, x, a, b: op.SiLU(op.Linear(x, a)) * op.Linear(b, x)), False),
        (rule(patterns.silu), rule(lambda op, x: op.SiLU(x, _domain="other")), False),
        (rule(lambda op, x: op.Gelu(x, a="none")), rule(lambda op, x: op.Gelu(x, a="tanh")), False),
        (rule(patterns.linear, weight=("q4_0",)), rule(patterns.linear), True),
        (
            rule(patterns.linear, weight=("q4_0",)),
            rule(lambda op, a, b: op.Linear(a, b), b=("q8_0", "q4_0")),
            True,
        ),
        (rule(patterns.linear, weight=("q4_0",)), rule(patterns.linear, weight=("f32",)), False),
        (
            rule(gated, gate=("q4_0",), up=("q4_0",)),
            rule(gated_in_other_words, a=("q4_0",), b=("q8_0",)),
            False,
        ),
    ],
)
def test_two_rules_for_one_thing(first: Rule, second: Rule, expected: bool) -> None:
    assert collide(first, second) is expected
    assert collide(second, first) is expected


def test_what_nodes_may_go_without() -> None:
    """A number that a pattern insists on is no parameter."""
    given = trace(lambda op, x: op.GELU(x, tanh=1))
    bound = trace(lambda op, x, kind: op.GELU(x, tanh=kind))
    assert (given.optional, bound.optional) == (frozenset(), frozenset({"kind"}))
