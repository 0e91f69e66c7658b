"""How fast a model reads prompts and generates text, measured as llama-bench does.

That is on random tokens, without choosing any; a first run of each kind is not counted:
https://github.com/ggml-org/llama.cpp/tree/master/tools/llama-bench
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipelines.common.program.runner import CandidateRunner, Runner


@dataclass(frozen=True)
class Speed:
    """Tokens a second of some runs.

    Attributes:
        rates: Of each.
    """

    rates: Sequence[float]

    @property
    def mean(self) -> float:
        """Their mean."""
        return statistics.fmean(self.rates)

    @property
    def deviation(self) -> float:
        """Their standard deviation; 0 of a single run."""
        return statistics.stdev(self.rates) if len(self.rates) > 1 else 0.0


def measured(
    run: Callable[[], float], runs: int, before: Callable[[], None] = lambda: None
) -> Speed:
    """The speed of some runs, after one that is not counted.

    Args:
        run: Gives tokens a second.
        runs: How many count.
        before: Is called before each of those.
    """
    run()
    rates = []
    for _ in range(runs):
        before()
        rates.append(run())
    return Speed(rates)


class Work:
    """What is measured.

    Args:
        runner: The model, in one slot.
        vocabulary: How many tokens there are.
    """

    def __init__(self, runner: Runner, vocabulary: int) -> None:
        self._runner = runner
        self._vocabulary = vocabulary
        self._random = random.Random(0)

    def read(self, tokens: int) -> float:
        """Computes a prompt; tokens a second."""
        prompt = self._tokens(tokens)
        start = time.perf_counter()
        self._runner.prefill(0, prompt)
        return tokens / (time.perf_counter() - start)

    def generate(self, tokens: int) -> float:
        """Appends tokens to a first one, step by step; tokens a second."""
        runner = self._runner
        step = runner.advance if isinstance(runner, CandidateRunner) else runner.decode
        first, *others = self._tokens(1 + tokens)
        runner.prefill(0, [first])
        start = time.perf_counter()
        for token in others:
            step([token])
        return tokens / (time.perf_counter() - start)

    def _tokens(self, count: int) -> list[int]:
        return self._random.choices(range(self._vocabulary), k=count)
