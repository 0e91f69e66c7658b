"""Figures of engines that were measured in turns, so that what disturbs one disturbs all."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.bandwidth import Bandwidth
from benchmarks.engine import Engine
from benchmarks.report import median

OWN, LLAMA_CPP = "this project", "llama.cpp"
OWN_SINGLE = f"{OWN}, one sequence"

_SETTLE_S = 0.1
"""Threads of an engine that has finished spin for some 25 ms before they sleep."""


@dataclass(frozen=True)
class Series:
    """One engine's runs of a task.

    Attributes:
        variant: The way that it ran the model, where it has several.
        rates: Tokens a second of each run, of all sequences together.
        bandwidths: Bytes a second that the memory gave right before and after each, on average;
            empty where that is no limit.
    """

    variant: str
    rates: list[float]
    bandwidths: list[float]


@dataclass(frozen=True)
class Comparison:
    """All engines' runs of one task.

    Attributes:
        section: What is measured, a key of `benchmarks.compare.SECTIONS`.
        task: ``prefill`` or ``decode``.
        shape: The model's shape.
        encoding: That of its file.
        length: Tokens of the prompt, or of the context before the first step.
        sequences: Sequences side by side.
        threads: Threads of each engine.
        bytes_per_step: What a decode step has to read: weights, keys and values; 0 for prompts.
        series: By the engine's name.
        overhead: The part of this project's time that is not the model's; None if it was not
            measured.
    """

    section: str
    task: str
    shape: str
    encoding: str
    length: int
    sequences: int
    threads: int
    bytes_per_step: float
    series: Mapping[str, Series]
    overhead: float | None = None

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Comparison:
        """The one that `dataclasses.asdict` made `values` of."""
        series = {name: Series(**runs) for name, runs in values["series"].items()}
        return cls(**{**values, "series": series})

    def rate(self, engine: str) -> float | None:
        """An engine's median tokens a second; None, here and below, if it was not measured."""
        return median(self.series[engine].rates) if engine in self.series else None

    def ratio(self, engine: str, other: str) -> float | None:
        """How many times as fast an engine is as another: the median of their turns' ratios."""
        if not {engine, other} <= self.series.keys():
            return None
        turns = zip(self.series[engine].rates, self.series[other].rates, strict=True)
        return median(rate / against for rate, against in turns)

    def share(self, engine: str) -> float | None:
        """Percent of the moment's bandwidth that reading everything once a step takes."""
        if engine not in self.series:
            return None
        runs = self.series[engine]
        bytes_per_token = self.bytes_per_step / self.sequences
        turns = zip(runs.rates, runs.bandwidths, strict=True)
        return 100 * median(rate * bytes_per_token / bandwidth for rate, bandwidth in turns)

    def bandwidth(self) -> float:
        """The median bandwidth, bytes a second."""
        return median(rate for series in self.series.values() for rate in series.bandwidths)

    def roofline(self) -> float:
        """Tokens a second of an engine that does nothing but read, at the median bandwidth."""
        return self.bandwidth() / self.bytes_per_step * self.sequences


def alternate(
    engines: Sequence[Engine],
    seconds: Callable[[Engine], float],
    tokens: int,
    runs: int,
    source: Bandwidth | None = None,
) -> dict[str, Series]:
    """Measures engines in turns, each in its fastest variant.

    Args:
        engines: Engines that are warm.
        seconds: Lets an engine do the task once.
        tokens: How many it computes for each of its sequences.
        runs: Turns of each engine.
        source: Measures the bandwidth between any two turns; None for tasks that it does not limit.
    """
    for engine in engines:
        engine.use_fastest(seconds)
    time.sleep(_SETTLE_S)
    series = {engine.name: Series(engine.variant, [], []) for engine in engines}
    before = source.measure() if source else 0.0
    for _ in range(runs):
        for engine in engines:
            series[engine.name].rates.append(tokens * engine.setup.slots / seconds(engine))
            time.sleep(_SETTLE_S)
            if source:
                after = source.measure()
                series[engine.name].bandwidths.append((before + after) / 2)
                before = after
    return series
