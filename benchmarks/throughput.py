"""Measures a model from opening its file to decoding, with the memory's bandwidth beside it.

    python -m benchmarks.throughput MODEL.gguf [--quantization-encoding E] [--runs N] [--json]

Every start is a process of its own. Prompts are random tokens, and decoding goes on past end
tokens, so models with random weights measure like any other.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from benchmarks.bandwidth import read_bandwidth
from benchmarks.report import machine, median, print_machine, print_table
from pipelines.common.models.model import Model
from pipelines.common.program.runner import Runner
from pipelines.common.program.weights import WeightSource
from pipelines.common.progress import Progress
from pipelines.common.registry.registry import Registry
from pipelines.common.system import peak_memory
from pipelines.common.text_generation import ModelOptions

T = TypeVar("T")

_EMBEDDING, _HEAD = "embedding.weight", "head.weight"


@dataclass(frozen=True)
class Work:
    """What to measure.

    Attributes:
        pipeline: Name of the pipeline.
        options: Its model.
        prompt_tokens: Length of the prompt.
        tokens: Steps to decode.
        runs: Prompts to compute and continue; the figures are medians. 0 only starts the model.
    """

    pipeline: str
    options: ModelOptions
    prompt_tokens: int
    tokens: int
    runs: int


@dataclass(frozen=True)
class Start:
    """What one process measured.

    Attributes:
        file_s: Opening the model file and checking all of it.
        open_s: The same with the weight table and the tokenizer.
        phases: Seconds of each phase of the start.
        prompt_tokens_per_s: Rate of the prompt's computation; 0 if nothing ran.
        tokens_per_s: Rate of decoding, greedy choice included; 0 if nothing ran.
        bytes_per_token: Weights that a step reads, in the encoding that they run in: all but the
            embedding, of which it reads a row. The KV state is not counted.
        peak_bytes: Peak resident set.
        anonymous_bytes: What no file backs of the resident set at the end; None on macOS.
    """

    file_s: float
    open_s: float
    phases: dict[str, float]
    prompt_tokens_per_s: float
    tokens_per_s: float
    bytes_per_token: int
    peak_bytes: int
    anonymous_bytes: int | None


def start(work: Work) -> Start:
    """Opens and starts the model, then computes and continues prompts."""
    registry = Registry.discover()
    path = work.options.model_path
    assert path is not None
    begin = time.perf_counter()
    registry.opener(path)(path)
    file_s = time.perf_counter() - begin

    progress = Progress()
    begin = time.perf_counter()
    model = registry.load_pipeline(work.pipeline).open(work.options, registry, progress)
    open_s = time.perf_counter() - begin
    assert isinstance(model, Model)
    # A token more than is measured: decoding warms up with one.
    runner = model.start(slots=1, max_length=work.prompt_tokens + 1 + work.tokens)

    generator = np.random.default_rng(0)
    rates = [
        _generate(
            runner, generator.integers(model.config.vocabulary, size=work.prompt_tokens), work
        )
        for _ in range(work.runs)
    ]
    memory = peak_memory()
    return Start(
        file_s=file_s,
        open_s=open_s,
        phases=progress.seconds,
        prompt_tokens_per_s=median(rate for rate, _ in rates) if rates else 0.0,
        tokens_per_s=median(rate for _, rate in rates) if rates else 0.0,
        bytes_per_token=_bytes_per_token(model),
        peak_bytes=memory.resident,
        anonymous_bytes=memory.anonymous,
    )


def _generate(runner: Runner, prompt: Any, work: Work) -> tuple[float, float]:
    """Tokens a second of the prompt and of what follows it."""
    begin = time.perf_counter()
    token = int(runner.prefill(0, prompt.tolist()).argmax())
    prefill_s = time.perf_counter() - begin
    token = int(runner.decode([token])[0].argmax())
    begin = time.perf_counter()
    for _ in range(work.tokens):
        token = int(runner.decode([token])[0].argmax())
    return len(prompt) / prefill_s, work.tokens / (time.perf_counter() - begin)


def _bytes_per_token(model: Model) -> int:
    weights, config = model.program.weights, model.config
    assert isinstance(weights, WeightSource)
    if weights.identity(_EMBEDDING) == weights.identity(_HEAD):
        return weights.total_bytes
    row_bytes = weights.encodings[_EMBEDDING].row_bytes(config.hidden_size)
    return weights.total_bytes - config.vocabulary * row_bytes


def measure(work: Work) -> dict[str, Any]:
    """All figures of a model, as JSON values.

    The first start has an empty cache. The memory's bandwidth is measured before and after the
    second one, whose figures count.
    """
    before = _in_new_process(_bandwidth)
    with tempfile.TemporaryDirectory() as cache:
        os.environ["RUN_PIPELINE_CACHE"] = cache
        first = _in_new_process(start, replace(work, runs=0))
        warm = _in_new_process(start, work)
    after = _in_new_process(_bandwidth)
    bandwidth = (before + after) / 2
    return {
        "machine": machine(),
        "model": work.options.model_path.name if work.options.model_path else None,
        "encoding": work.options.encoding,
        "target": work.options.target,
        "threads": work.options.threads,
        "prompt_tokens": work.prompt_tokens,
        "tokens": work.tokens,
        "first_start": asdict(first),
        "warm_start": asdict(warm),
        "bandwidth_before": before,
        "bandwidth_after": after,
        "bandwidth_share": warm.bytes_per_token * warm.tokens_per_s / bandwidth,
    }


def _bandwidth() -> float:
    return read_bandwidth()[0]


def _in_new_process(function: Callable[..., T], *arguments: Any) -> T:
    """Calls `function` where nothing is loaded and no memory used yet."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def print_figures(figures: dict[str, Any]) -> None:
    """Prints a table of what `measure` returned."""
    first, warm = figures["first_start"], figures["warm_start"]
    phases = ("build", "lower", "compile", "load")
    rows: list[tuple[str, object]] = [
        ("open and check the file, s", warm["file_s"]),
        ("open, tokenizer included: first, s", first["open_s"]),
        ("open, tokenizer included: later, s", warm["open_s"]),
        *((f"first start: {phase}, s", first["phases"].get(phase, 0.0)) for phase in phases),
        *((f"later start: {phase}, s", warm["phases"].get(phase, 0.0)) for phase in phases),
        (f"prompt of {figures['prompt_tokens']}, tokens/s", warm["prompt_tokens_per_s"]),
        (f"decoding {figures['tokens']}, tokens/s", warm["tokens_per_s"]),
        ("weights read a token, MB", warm["bytes_per_token"] / 1e6),
        ("read bandwidth before, GB/s", figures["bandwidth_before"] / 1e9),
        ("read bandwidth after, GB/s", figures["bandwidth_after"] / 1e9),
        ("share of it that decoding reaches, %", 100 * figures["bandwidth_share"]),
        ("peak memory, GiB", warm["peak_bytes"] / 2**30),
        ("anonymous memory at the end, GiB", (warm["anonymous_bytes"] or 0) / 2**30),
    ]
    print_table([f"{figures['model']} in {figures['encoding']}, {figures['target']}", ""], rows)


def main() -> None:
    """Reads the command line, measures, prints."""
    parser = argparse.ArgumentParser(description="Measures a model's start, speed and memory.")
    parser.add_argument("model", type=Path, metavar="MODEL.gguf")
    parser.add_argument("--pipeline", default="llama3")
    parser.add_argument("--quantization-encoding", default="q4_0")
    parser.add_argument("--target", default="cpu")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--prompt-tokens", type=int, default=128)
    parser.add_argument("--tokens", type=int, default=128, help="steps to decode")
    parser.add_argument("--runs", type=int, default=3, help="runs to take the median of")
    parser.add_argument("--no-native-ops", action="store_true", help="with the stock operators")
    parser.add_argument("--json", action="store_true", help="print JSON in place of the table")
    arguments = parser.parse_args()
    options = ModelOptions(
        model_path=arguments.model,
        encoding=arguments.quantization_encoding,
        target=arguments.target,
        threads=arguments.threads,
        native_ops=not arguments.no_native_ops,
    )
    figures = measure(
        Work(
            arguments.pipeline,
            options,
            arguments.prompt_tokens,
            arguments.tokens,
            arguments.runs,
        )
    )
    if arguments.json:
        print(json.dumps(figures, indent=2))
    else:
        print_machine()
        print_figures(figures)


if __name__ == "__main__":
    main()
