"""What is timed when a model's speed is measured."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.common.measure.bandwidth import numpy_bandwidth
from pipelines.common.measure.speed import Speed, Work, measured

VOCABULARY = 50


class Noting:
    """Notes how many tokens it is given."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []

    def prefill(self, slot, tokens, start=0):  # type: ignore[no-untyped-def]
        assert (slot, start) == (0, 0)
        assert all(0 <= token < VOCABULARY for token in tokens)
        self.calls.append(("prefill", len(tokens)))
        return np.zeros(VOCABULARY, np.float32)

    def decode(self, tokens):  # type: ignore[no-untyped-def]
        self.calls.append(("decode", len(tokens)))
        return np.zeros((1, VOCABULARY), np.float32)


def test_a_prompt_is_read_at_once_and_tokens_are_generated_one_by_one() -> None:
    runner = Noting()
    work = Work(runner, VOCABULARY)  # type: ignore[arg-type]
    assert work.read(700) > 0
    assert runner.calls == [("prefill", 700)]
    runner.calls.clear()
    assert work.generate(3) > 0
    assert runner.calls == [("prefill", 1), *[("decode", 1)] * 3]


def test_the_first_run_does_not_count() -> None:
    rates = iter([1.0, 10.0, 20.0])
    before: list[None] = []
    speed = measured(lambda: next(rates), 2, lambda: before.append(None))
    assert speed.rates == [10, 20]
    assert len(before) == 2
    assert (speed.mean, speed.deviation) == (15, pytest.approx(50**0.5))
    assert Speed([3.0]).deviation == 0


def test_memory_is_read_at_some_speed() -> None:
    with numpy_bandwidth(1 / 16) as memory:
        assert 1e8 < memory.measure() < 1e13
