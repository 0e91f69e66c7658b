"""What one decode step spends its time in, for `benchmarks.gpu`.

Kernels are seen by CUPTI, through torch's profiler, whoever has launched them. ONNX Runtime's own
profile tells what the host spends on each operator: for one on the GPU, the time to launch it.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu_parts.model import Steps, start
from benchmarks.gpu_parts.part import Part, Recorder, Settings
from benchmarks.profile import events_of, milliseconds, profiled

_ON_DEVICE = ("kernel", "gpu_memcpy", "gpu_memset")
"""Categories of a trace's events that take time on the GPU."""
_OPERATOR_STEPS = 16


@dataclass(frozen=True)
class Kernel:
    """All launches of a kernel on one grid, which in a decoder is one shape of operands.

    Attributes:
        name: Its name.
        grid: Blocks in each direction; empty for copies.
        launches: How many there are in a step.
        microseconds: What they take together in a step.
    """

    name: str
    grid: tuple[int, ...]
    launches: float
    microseconds: float


def record_kernels(
    step: Callable[[], object], steps: int, recorder: Recorder, *, on_gpu: bool, **labels: object
) -> None:
    """Records the kernels of a step, and how long the GPU waits in it.

    Args:
        step: Does one; everything in it is warm.
        steps: How many to take the average of.
        recorder: Where to.
        on_gpu: Whether there have to be kernels.
        labels: What the record says beside it.

    Raises:
        RuntimeError: The profiler sees nothing of what runs on the GPU.
    """
    activity = torch.profiler.ProfilerActivity
    activities = [activity.CPU, activity.CUDA] if on_gpu else [activity.CPU]
    with tempfile.TemporaryDirectory() as folder:
        for trace in (Path(folder) / "warm-up.json", Path(folder) / "trace.json"):
            with torch.profiler.profile(activities=activities) as profiler:
                for _ in range(steps):
                    step()
                if on_gpu:
                    torch.cuda.synchronize()
            profiler.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]
    kernels, span = summed(events, steps)
    if on_gpu and not kernels:
        raise RuntimeError("torch's profiler has seen no kernel")
    recorder.record(
        "kernels",
        **labels,
        steps=steps,
        busy_us=sum(kernel.microseconds for kernel in kernels),
        span_us=span,
        kernels=[asdict(kernel) for kernel in kernels],
    )


def summed(events: Iterable[Mapping[str, Any]], steps: int) -> tuple[list[Kernel], float]:
    """The kernels of a step, largest first, and microseconds from a step's first to its last.

    Args:
        events: Those of a trace as Chrome reads it, times in microseconds.
        steps: How many steps it covers.
    """
    durations: dict[tuple[str, tuple[int, ...]], list[float]] = defaultdict(list)
    begins, ends = [], []
    for event in events:
        if event.get("cat") in _ON_DEVICE:
            grid = tuple(event.get("args", {}).get("grid", ()))
            durations[event["name"], grid].append(event["dur"])
            begins.append(event["ts"])
            ends.append(event["ts"] + event["dur"])
    kernels = [
        Kernel(name, grid, len(each) / steps, sum(each) / steps)
        for (name, grid), each in durations.items()
    ]
    span = (max(ends) - min(begins)) / steps if ends else 0.0
    return sorted(kernels, key=lambda kernel: -kernel.microseconds), span


def operators(part: Part, settings: Settings, recorder: Recorder) -> None:
    """Records what the host spends on each operator of a decode step."""
    with tempfile.TemporaryDirectory() as folder:
        with profiled(Path(folder)) as sessions:
            model, runner = start(part, settings, slots=1)
        steps = Steps(model, runner, batch=1, context=settings.context)
        for _ in range(_OPERATOR_STEPS):
            steps.run()
        # A target may have small sessions beside the model's, which has the most operators.
        found = [list(milliseconds(events_of(each))) for each in sessions]
        runs = max(filter(None, found), key=lambda runs: len(runs[-1][1]))
    runs = runs[-_OPERATOR_STEPS // 2 :]  # the first ones warm up
    operators = sum((each for _, each in runs), Counter[str]())
    recorder.record(
        "operators",
        **part.labels,
        step_us=1000 * sum(total for total, _ in runs) / len(runs),
        operators=[
            {"operator": name, "microseconds": 1000 * total / len(runs)}
            for name, total in operators.most_common()
        ],
    )
