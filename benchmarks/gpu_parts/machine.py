"""The machine under `benchmarks.gpu`: what it is, and the rates that nothing on it exceeds."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable

import torch

from benchmarks.gpu_parts.part import Part, Recorder, Settings
from benchmarks.report import machine as host
from benchmarks.report import median
from pipelines.common.ort import onnxruntime

_REPEATS = 10
_QUERY = ("name", "driver_version", "memory.total", "clocks.max.sm", "clocks.max.mem")


def machine(_part: Part, settings: Settings, recorder: Recorder) -> None:
    """Records the facts and the rates."""
    device = settings.device
    recorder.record("facts", **host())
    recorder.record("facts", torch=torch.__version__, onnxruntime=onnxruntime().__version__)
    if device == "cuda":
        with recorder.attempt("the facts of the GPU"):
            properties = torch.cuda.get_device_properties(0)
            recorder.record(
                "facts",
                gpu=f"{properties.name}, {properties.multi_processor_count} multiprocessors,"
                f" {properties.total_memory / 2**30:.1f} GiB",
                cuda=f"torch {torch.version.cuda}",
            )
        with recorder.attempt("nvidia-smi"):
            recorder.record("facts", nvidia_smi=_nvidia_smi())
    with recorder.attempt("bandwidth"):
        _bandwidth(settings, recorder)
    with recorder.attempt("float16 products"):
        _products(settings, recorder)


def _nvidia_smi() -> str:
    query = ["nvidia-smi", f"--query-gpu={','.join(_QUERY)}", "--format=csv,noheader"]
    return subprocess.run(
        query, check=True, capture_output=True, text=True, timeout=20
    ).stdout.strip()


def _bandwidth(settings: Settings, recorder: Recorder) -> None:
    source = torch.ones(settings.copied_bytes // 4, device=settings.device)
    target = torch.empty_like(source)
    copied = _seconds(lambda: target.copy_(source), settings.device)
    # Which of the two reads faster depends on torch's version; neither writes.
    read = min(_seconds(source.sum, settings.device), _seconds(source.amax, settings.device))
    recorder.record(
        "bandwidth",
        copy_bytes_per_s=2 * source.nbytes / copied,
        read_bytes_per_s=source.nbytes / read,
        buffer_bytes=source.nbytes,
    )


def _products(settings: Settings, recorder: Recorder) -> None:
    size = settings.product_size
    one, other = (
        torch.randn(size, size, device=settings.device, dtype=torch.float16) for _ in range(2)
    )
    seconds = _seconds(lambda: one @ other, settings.device)
    recorder.record("matmul", size=size, flops_per_s=2 * size**3 / seconds)


def _seconds(work: Callable[[], object], device: str) -> float:
    """The median time of `work`, by the device's own clock where it has one."""
    for _ in range(3):
        work()
    if device == "cpu":
        times = []
        for _ in range(_REPEATS):
            start = time.perf_counter()
            work()
            times.append(time.perf_counter() - start)
        return median(times)
    events = [
        (torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True))
        for _ in range(_REPEATS)
    ]
    for start_event, end_event in events:
        start_event.record()
        work()
        end_event.record()
    torch.cuda.synchronize()
    return median(start_event.elapsed_time(end_event) / 1000 for start_event, end_event in events)
