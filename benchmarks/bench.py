"""What `benchmarks.compare` measures with, and the figures that come of it."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field

from benchmarks.bandwidth import Bandwidth
from benchmarks.engine import Engine, EngineError, Setup
from benchmarks.models import Model
from benchmarks.report import machine
from benchmarks.series import LLAMA_CPP, OWN, Comparison, alternate


@dataclass(frozen=True)
class Start:
    """Seconds from the start of a process to the first token, of several processes."""

    shape: str
    engine: str
    seconds: list[float]


@dataclass(frozen=True)
class Memory:
    """Peak resident set of a process, and what weights, keys and values take by themselves."""

    shape: str
    engine: str
    peak_bytes: int
    needed_bytes: float


@dataclass
class Bench:
    """What is measured with, and the figures so far."""

    arguments: argparse.Namespace
    source: Bandwidth
    comparisons: list[Comparison] = field(default_factory=list)
    starts: list[Start] = field(default_factory=list)
    memory: list[Memory] = field(default_factory=list)

    def model(self, shape: str, encoding: str = "q4_0") -> Model:
        """The model file, written if it is not there."""
        return Model.at(self.arguments.models_dir, shape, encoding)

    def setup(self, model: Model, *, max_length: int, slots: int = 1, threads: int = 0) -> Setup:
        """What to start an engine with; by default on all threads asked for."""
        threads = threads or self.arguments.threads
        return Setup(model.path, slots, max_length, threads, self.arguments.native_ops)

    def own(self, setup: Setup, name: str = OWN) -> Engine:
        """Starts this project."""
        return Engine(name, sys.executable, "benchmarks.own_engine", setup)

    def llama_cpp(self, setup: Setup) -> Engine:
        """Starts llama.cpp."""
        python = self.arguments.llama_python
        return Engine(LLAMA_CPP, python, "benchmarks.llama_cpp_engine", setup)

    def each(self, setup: Setup) -> Iterator[Engine]:
        """Starts one engine after the other."""
        yield self.own(setup)
        if self.arguments.llama:
            yield self.llama_cpp(setup)

    @contextmanager
    def all_warm(self, setup: Setup) -> Iterator[list[Engine]]:
        """All engines side by side."""
        with ExitStack() as stack:
            engines = [stack.enter_context(engine) for engine in self.each(setup)]
            for engine in engines:
                engine.warm_up()
            yield engines

    def decode(
        self,
        section: str,
        model: Model,
        engines: list[Engine],
        context: int,
        *,
        limited: bool = True,
        task: Callable[[Engine, int, int], float] = Engine.decode,
        overhead_of: Engine | None = None,
    ) -> Comparison:
        """Compares decode steps.

        Args:
            section: What is measured, a key of `benchmarks.compare.SECTIONS`.
            model: The model.
            engines: Engines that are warm.
            context: Tokens before the first step.
            limited: Whether the bandwidth limits them.
            task: What the engines are asked for.
            overhead_of: The engine whose overhead is measured too.
        """
        steps = self.arguments.steps
        setup = engines[-1].setup
        say(f"{section}: {model.name}: {setup.slots} sequence(s) after {context} tokens")
        positions = setup.slots * (context + (steps + 1) / 2)
        return self._kept(
            Comparison(
                section=section,
                task="decode",
                shape=model.shape,
                encoding=model.encoding,
                length=context,
                sequences=setup.slots,
                threads=setup.threads,
                bytes_per_step=model.bytes_per_token + model.kv_bytes(positions),
                series=alternate(
                    engines,
                    lambda engine: task(engine, context, steps),
                    steps,
                    self.arguments.runs,
                    self.source if limited else None,
                ),
                overhead=overhead_of.overhead(context, steps) if overhead_of else None,
            )
        )

    def prefill(self, section: str, model: Model, engines: list[Engine], length: int) -> Comparison:
        """Compares prompts of `length` tokens."""
        say(f"{section}: {model.name}: prompt of {length}")
        setup = engines[-1].setup
        return self._kept(
            Comparison(
                section=section,
                task="prefill",
                shape=model.shape,
                encoding=model.encoding,
                length=length,
                sequences=1,
                threads=setup.threads,
                bytes_per_step=0,
                series=alternate(
                    engines,
                    lambda engine: engine.prefill(length),
                    length,
                    self.arguments.prefill_runs,
                ),
            )
        )

    def _kept(self, comparison: Comparison) -> Comparison:
        self.comparisons.append(comparison)
        return comparison

    def as_json(self) -> dict[str, object]:
        """All figures."""
        return {
            "machine": machine(),
            "llama_cpp": self.arguments.llama and llama_cpp_version(self.arguments.llama_python),
            "bandwidth_by": self.source.method,
            "comparisons": [asdict(comparison) for comparison in self.comparisons],
            "starts": [asdict(start) for start in self.starts],
            "memory": [asdict(memory) for memory in self.memory],
        }


def say(what: str) -> None:
    """Tells on stderr what is being measured."""
    print(what, file=sys.stderr, flush=True)


def llama_cpp_version(python: str) -> str:
    """What an interpreter has of llama.cpp.

    Raises:
        EngineError: It has none.
    """
    name = "llama-cpp-python"
    program = f"import importlib.metadata as m; print(m.version('{name}'))"
    try:
        done = subprocess.run([python, "-c", program], check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError):
        raise EngineError(
            f"{python} has no {name}: install it (pip install -e '.[bench]'), name an interpreter"
            " that has it with --llama-python, or measure without it by --no-llama"
        ) from None
    return f"{name} {done.stdout.strip()}"
