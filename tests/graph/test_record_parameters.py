"""A dataclass in the place of a dozen parameters, for patterns and emit functions."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from pipelines.common.graph import patterns
from pipelines.common.graph.pattern_trace import trace
from pipelines.common.graph.records import flat

if TYPE_CHECKING:
    from pipelines.common.graph.rules import Emitter


@dataclass(frozen=True)
class Pair:
    first: Any
    second: Any = "none"


def single(op: Emitter, x: Any, pair: Pair, *, scale: int = 1) -> Any:  # noqa: ARG001
    return x, pair, scale


def optional(op: Emitter, x: Any, pair: Pair | None = None) -> Any:  # noqa: ARG001
    return x, pair


def test_a_record_stands_for_its_fields() -> None:
    function = flat(single)
    assert [*inspect.signature(function).parameters] == ["op", "x", "first", "second", "scale"]
    assert function(None, 1, 2, 3) == (1, Pair(2, 3), 1)
    assert function(None, x=1, second=3, first=2) == (1, Pair(2, 3), 1)
    assert function(None, x=1, first=2) == (1, Pair(2), 1)
    assert flat(partial(single, scale=4))(None, x=1, first=2) == (1, Pair(2), 4)
    assert function.__module__ == __name__


def test_a_record_of_which_nothing_is_bound() -> None:
    assert flat(optional)(None, x=1) == (1, None)
    assert flat(optional)(None, x=1, first=2) == (1, Pair(2))


@pytest.mark.parametrize(
    "function",
    [
        lambda op, **bound: (op, bound),
        lambda op, *_: op,
        patterns.linear,
        partial(patterns.rms_norm, epsilon=1),
    ],
)
def test_plain_parameters_stay(function: Callable[..., Any]) -> None:
    assert flat(function) is function


def test_many_of_a_record_are_no_record() -> None:
    def several(op: Any, pairs: Sequence[Pair]) -> Any:
        return op, pairs

    assert flat(several) is several


def test_names_that_are_bound_twice() -> None:
    def twice(op: Any, first: Any, pair: Pair) -> Any:
        return op, first, pair

    with pytest.raises(ValueError, match="duplicate parameter name: 'first'"):
        flat(twice)


def test_a_pattern_binds_the_fields() -> None:
    parameters = trace(patterns.rope_attention).parameters
    assert {"query", "past_key", "scale", "cos", "interleaved"} < {*parameters}
