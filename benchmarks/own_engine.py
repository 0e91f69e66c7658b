"""Serves this project to `benchmarks.compare`, see `benchmarks.engine`."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.engine import Setup, Worker, read_setup, serve
from pipelines.common.cli.console import ConsoleProgress
from pipelines.common.engine.engine import Engine
from pipelines.common.engine.request import Request
from pipelines.common.models.model import Model
from pipelines.common.program.runner import Runner
from pipelines.common.registry.registry import Registry
from pipelines.common.text_generation import ModelOptions


class TimedRunner:
    """A runner whose steps are timed; for the engine it is the runner itself.

    Attributes:
        decode_s: Seconds spent in steps.
    """

    def __init__(self, runner: Runner) -> None:
        self.slots = runner.slots
        self.max_length = runner.max_length
        self.batch_invariant = runner.batch_invariant
        self.forward = runner.forward
        self.prefill = runner.prefill
        self.copy = runner.copy
        self.score = runner.score
        self.decode_s = 0.0
        self._decode = runner.decode

    def decode(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """See `Runner.decode`."""
        start = time.perf_counter()
        logits = self._decode(tokens)
        self.decode_s += time.perf_counter() - start
        return logits


class OwnWorker(Worker):
    """Generates through the engine: tokens are chosen and turned to text."""

    def __init__(self, model: Model, setup: Setup) -> None:
        runner = TimedRunner(model.start(slots=setup.slots, max_length=setup.max_length))
        super().__init__(runner, model.config.vocabulary, setup.slots)
        self._timed = runner
        # Random weights may choose an end token at any time.
        self._tokenizer = copy.copy(model.tokenizer)
        self._tokenizer.end_ids = frozenset()

    def generate(self, context: int, steps: int) -> float:
        """Seconds of the steps; prompts are not counted."""
        self._length = 0
        prompt = self._random_tokens(context)
        engine = Engine(self._timed, self._tokenizer)
        sequences = [engine.add(Request(prompt, context + 1 + steps)) for _ in range(self._slots)]
        while not all(sequence.tokens for sequence in sequences):
            engine.step()
        self._timed.decode_s = 0.0
        start = time.perf_counter()
        while not engine.idle:
            engine.step()
        return time.perf_counter() - start

    def overhead(self, context: int, steps: int) -> float:
        """The part of the steps' time that is not the runner's."""
        seconds = self.generate(context, steps)
        return 1 - self._timed.decode_s / seconds


def main() -> None:
    """Opens the model, serves it."""
    setup = read_setup()
    registry = Registry.discover()
    options = ModelOptions(
        model_path=setup.model,
        encoding="auto",
        threads=setup.threads,
        native_ops=setup.native_ops,
    )
    model = registry.load_pipeline("llama3").open(options, registry, ConsoleProgress())
    assert isinstance(model, Model)
    operators = "native operators" if model.describe()["op_packages"] else "stock operators"
    serve({operators: lambda: OwnWorker(model, setup)})


if __name__ == "__main__":
    main()
