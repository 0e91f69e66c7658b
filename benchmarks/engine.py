"""An engine under measurement: a process that holds a model and times what it is told to do.

The process keeps its model loaded and sleeps on a pipe while another engine works, so that engines
can be measured in turns. `Engine` is the end that asks; `serve` is the end that works, for which an
engine needs no more than a `Runner`. A request is a line of JSON, and so is its answer.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from pipelines.common.errors import PipelineError
from pipelines.common.system import peak_memory

ROOT = Path(__file__).parent.parent


class EngineError(PipelineError):
    """An engine that cannot be started, or that ended."""


@dataclass(frozen=True)
class Setup:
    """What an engine is started with.

    Attributes:
        model: The model file.
        slots: Sequences side by side.
        max_length: Tokens that each of them can hold.
        threads: Threads to compute with.
        native_ops: Whether this project uses its own kernels; it has no meaning for others.
    """

    model: Path
    slots: int
    max_length: int
    threads: int
    native_ops: bool = True


class Engine:
    """Starts an engine and asks it.

    Args:
        name: What tables call it.
        python: The interpreter that has it.
        module: The module that serves it.
        setup: What to start it with.
    """

    def __init__(self, name: str, python: str, module: str, setup: Setup) -> None:
        self.name = name
        self.setup = setup
        self._process = subprocess.Popen(
            [python, "-m", module, json.dumps(asdict(setup), default=str)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            cwd=ROOT,
        )
        self._variants: list[str] = self._answer()
        self.variant = self._variants[0]

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()

    def prefill(self, tokens: int) -> float:
        """Seconds that a prompt of so many tokens takes, to the logits after its last one."""
        return self._ask("prefill", tokens=tokens)

    def decode(self, context: int, steps: int) -> float:
        """Seconds that some steps of all slots take, the first one after `context` tokens."""
        return self._ask("decode", context=context, steps=steps)

    def generate(self, context: int, steps: int) -> float:
        """The same as `decode`, but with all that an engine does for the text of the sequences."""
        return self._ask("generate", context=context, steps=steps)

    def overhead(self, context: int, steps: int) -> float:
        """The part of the time that `generate` does not spend in the model."""
        return self._ask("overhead", context=context, steps=steps)

    def warm_up(self) -> None:
        """Starts all variants and makes each of them use its memory."""
        tokens = min(32, self.setup.max_length - 1)
        for variant in self._variants:
            self.variant = variant
            self.prefill(tokens)
            self.decode(tokens, 1)

    def use_fastest(self, seconds: Callable[[Engine], float]) -> None:
        """Measures each variant once, and keeps to the one that takes the least."""
        taken = {}
        for variant in self._variants:
            self.variant = variant
            taken[variant] = seconds(self)
        self.variant = min(taken, key=taken.__getitem__)

    def peak_bytes(self) -> int:
        """The process's peak resident set."""
        return int(self._ask("peak_bytes"))

    def _ask(self, what: str, **arguments: int) -> float:
        assert self._process.stdin is not None
        request = {"what": what, "variant": self.variant, "arguments": arguments}
        with suppress(BrokenPipeError):  # the answer tells that it ended
            self._process.stdin.write(json.dumps(request) + "\n")
        return float(self._answer())

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise EngineError(f"{self.name}: its process ended with {self._process.wait()}")
        return json.loads(line)


class Runner(Protocol):
    """The part of `pipelines.common.program.runner.Runner` that is measured."""

    def prefill(self, slot: int, tokens: Sequence[int], start: int = 0) -> object:
        """Writes `tokens` into `slot` from position `start` on; returns the last one's logits."""

    def decode(self, tokens: Sequence[int]) -> object:
        """Appends a token to every slot; returns their logits."""


def read_setup() -> Setup:
    """What `Engine` has put on the command line."""
    values = json.loads(sys.argv[1])
    return Setup(**{**values, "model": Path(values["model"])})


def serve(variants: Mapping[str, Callable[[], Worker]]) -> None:
    """Answers requests until there are no more.

    Args:
        variants: Ways to run the model, by name; one is started when it is first asked for.
    """
    # What libraries print must not come between the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    started: dict[str, Worker] = {}
    print(json.dumps(list(variants)), file=answers)
    for line in sys.stdin:
        request = json.loads(line)
        name = request["variant"]
        if name not in started:
            started[name] = variants[name]()
        answer = getattr(started[name], request["what"])(**request["arguments"])
        print(json.dumps(answer), file=answers)


class Worker:
    """Does the work of the requests, which are named as its methods.

    All slots hold sequences of the same length. One is shortened by writing its last token again,
    so that a long context is computed once, however many decode steps are measured after it.

    Args:
        runner: The model.
        vocabulary: Number of its tokens; random ones are fed.
        slots: Sequences that it holds.
    """

    def __init__(self, runner: Runner, vocabulary: int, slots: int) -> None:
        self._runner = runner
        self._vocabulary = vocabulary
        self._slots = slots
        self._length = 0

    def prefill(self, tokens: int) -> float:
        """See `Engine.prefill`."""
        prompt = self._random_tokens(tokens)
        self._length = 0
        start = time.perf_counter()
        self._runner.prefill(0, prompt)
        return time.perf_counter() - start

    def decode(self, context: int, steps: int) -> float:
        """See `Engine.decode`."""
        kept = context - 1 if context <= self._length else 0
        for slot in range(self._slots):
            self._runner.prefill(slot, self._random_tokens(context - kept), kept)
        self._length = context + steps
        tokens = self._random_tokens(self._slots)
        start = time.perf_counter()
        for _ in range(steps):
            self._runner.decode(tokens)
        return time.perf_counter() - start

    def generate(self, context: int, steps: int) -> float:
        """See `Engine.generate`; an engine that only computes does nothing else."""
        return self.decode(context, steps)

    def peak_bytes(self) -> int:
        """See `Engine.peak_bytes`."""
        return peak_memory().resident

    def _random_tokens(self, count: int) -> list[int]:
        return np.random.default_rng(0).integers(self._vocabulary, size=count).tolist()
