"""Measures which operators a prompt and a decode step spend their time in.

    python -m benchmarks.profile MODEL.gguf [--quantization-encoding E]

The figures are ONNX Runtime's own, of the session that the cpu target makes.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks.report import print_machine, print_table
from pipelines.common.ort import onnxruntime
from pipelines.common.progress import Progress
from pipelines.common.registry.registry import Registry
from pipelines.common.text_generation import ModelOptions


def profile(options: ModelOptions, prompt_tokens: int, steps: int, folder: Path) -> list[Any]:
    """Events of a prompt and `steps` decode steps, each after a run that warms up."""
    registry = Registry.discover()
    with profiled(folder) as sessions:
        model = registry.load_pipeline("llama3").open(options, registry, Progress())
        runner = model.start(slots=1, max_length=prompt_tokens + steps + 1)
    for _ in range(2):
        runner.prefill(0, list(range(prompt_tokens)))
    for _ in range(steps + 1):
        runner.decode([0])
    return events_of(sessions[0])


@contextmanager
def profiled(folder: Path) -> Iterator[list[Any]]:
    """Has sessions that are made in the block profiled, and lists them.

    Targets leave no way in for profiling: their sessions are caught when they are made.

    Args:
        folder: Where the runtime writes its figures.
    """
    sessions: list[Any] = []

    class ProfiledSession(onnxruntime().InferenceSession):  # type: ignore[misc]
        def __init__(self, model: bytes, options: Any, **more: Any) -> None:
            options.enable_profiling = True
            options.profile_file_prefix = str(folder / f"profile-{len(sessions)}")
            super().__init__(model, options, **more)
            sessions.append(self)

    with mock.patch.object(onnxruntime(), "InferenceSession", ProfiledSession):
        yield sessions


def events_of(session: Any) -> list[Any]:
    """Ends the profiling of a session; what it has seen."""
    events: list[Any] = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    return events


def milliseconds(events: list[Any]) -> Iterator[tuple[float, Counter[str]]]:
    """For every run of the session, how long it took and how much of it each operator."""
    runs = [event for event in events if event["name"] == "model_run"]
    kernels = [event for event in events if event["name"].endswith("_kernel_time")]
    for run in runs:
        operators: Counter[str] = Counter()
        for kernel in kernels:
            if run["ts"] <= kernel["ts"] < run["ts"] + run["dur"]:
                operators[kernel["args"]["op_name"]] += kernel["dur"] / 1000
        yield run["dur"] / 1000, operators


def main() -> None:
    """Reads the command line, measures, prints."""
    parser = argparse.ArgumentParser(description="Profiles the operators of the cpu target.")
    parser.add_argument("model", type=Path, metavar="MODEL.gguf")
    parser.add_argument("--quantization-encoding", default="q4_0")
    parser.add_argument("--prompt-tokens", type=int, default=128)
    parser.add_argument("--steps", type=int, default=32, help="decode steps")
    parser.add_argument("--no-native-ops", action="store_true", help="with the stock operators")
    arguments = parser.parse_args()
    options = ModelOptions(
        model_path=arguments.model,
        encoding=arguments.quantization_encoding,
        native_ops=not arguments.no_native_ops,
    )
    with tempfile.TemporaryDirectory() as folder:
        events = profile(options, arguments.prompt_tokens, arguments.steps, Path(folder))
    _, (prompt, prompt_operators), _, *steps = milliseconds(events)
    step = sum(total for total, _ in steps) / len(steps)
    step_operators = sum((operators for _, operators in steps), Counter[str]())
    print_machine()
    print_table(
        ["operator", f"prompt of {arguments.prompt_tokens}, ms", "decode step, ms"],
        [
            *(
                (name, prompt_operators[name], step_operators[name] / len(steps))
                for name, _ in step_operators.most_common()
            ),
            ("whole run", prompt, step),
        ],
    )


if __name__ == "__main__":
    main()
