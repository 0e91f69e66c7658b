"""Measures the cuda target on the GPU of this machine, in one run of less than eight minutes.

    python -m benchmarks.gpu --json FIGURES.json

It needs an NVIDIA GPU with 80 GiB of memory and its driver, this project's packages with a torch
that has CUDA (of the same major version as onnxruntime-gpu), 64 GiB of memory, and 25 GB for model
files: it writes random weights in Llama 3's shapes of 1B and 8B, and removes them. They go where
temporary files do, or to ``--folder``; they are read many times, so that a fast disk, or memory
(``TMPDIR=/dev/shm``), saves minutes. Nothing is downloaded.

Each part is a process of its own, and its figures are in the JSON as soon as it has ended: what
fails is told in a line, with its traceback in the JSON, and the rest goes on. Parts come in the
order of their importance; those that the budget has no time for are left out. ``--dry-run`` goes
through all of it with a tiny model on the cpu target, to try the program itself.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.engine import ROOT
from benchmarks.gpu_parts.part import Part, Settings, to_json
from benchmarks.gpu_parts.perform import KINDS
from benchmarks.gpu_parts.tables import print_tables

_CAPTURED = ("graph capture", {"graph_capture": True})
_PACKED = ("graph capture, packed", {"graph_capture": True, "fpa_intb_gemm": True})
_LAUNCHED = ("no capture", {"graph_capture": False})
_PLAIN: tuple[str, dict[str, bool]] = ("", {})

_ENVIRONMENT = {
    # CUPTI does not survive being torn down and set up again beside CUDA graphs, see
    # torch/profiler/profiler.py.
    "DISABLE_CUPTI_LAZY_REINIT": "1",
    "TEARDOWN_CUPTI": "0",
    "ORT_DISABLE_TELEMETRY": "1",
}

_RESERVED_S = 15
"""Kept for measuring the machine once more at the end."""
_KEPT_OUTPUT = 4000
"""Characters of a failed part's messages that are kept."""


def dry_settings(folder: Path) -> Settings:
    """Settings with which everything is quick and no figure means anything."""
    return Settings(
        "cpu",
        folder,
        batches=(1, 2, 3),
        context=8,
        long_context=24,
        prompts=(8, 24),
        steps=2,
        windows=2,
        parity_tokens=8,
        copied_bytes=2**20,
        product_size=64,
        product_bytes=2**18,
    )


def plan(target: str, shapes: Sequence[str]) -> list[list[Part]]:
    """The parts of a run, the most important first; those of one list run side by side.

    Args:
        target: The target's name; only ``cuda`` has variants.
        shapes: Shapes of models, the smallest first.
    """
    small, large = shapes[0], shapes[-1]
    captured, packed, launched = (
        (_CAPTURED, _PACKED, _LAUNCHED) if target == "cuda" else [_PLAIN] * 3
    )
    models = [
        Part("model", shape, encoding, needed_s=0, limit_s=180)
        for shape in (large, small)
        for encoding in ("q4_0", "f16")
    ]
    parts = [
        Part("speed", large, "q4_0", *captured, needed_s=25, limit_s=100),
        Part("speed", large, "q4_0", *packed, needed_s=25, limit_s=100),
        Part("speed", large, "f16", *captured, needed_s=25, limit_s=100),
        Part("parity", small, "f16", *captured),
        Part("parity", small, "q4_0", *captured),
        Part("parity", small, "q4_0", *packed),
        Part("command", limit_s=100),
        Part("speed", large, "q4_0", *launched),
        Part("speed", large, "f16", *launched),
        Part("products", large),
        Part("speed", small, "q4_0", *captured),
        Part("speed", small, "q4_0", *packed),
        Part("speed", small, "f16", *captured),
        Part("operators", large, "q4_0", *launched),
        Part("parity", large, "q4_0", *captured, needed_s=40, limit_s=100),
        Part("parity", large, "f16", *captured, needed_s=40, limit_s=100),
        Part("speed", small, "q4_0", *launched),
        Part("speed", small, "f16", *launched),
    ]
    machine, again = (Part("machine", variant=when, needed_s=0) for when in ("before", "after"))
    return [[machine], _once(models), *([part] for part in _once(parts)), [again]]


def _once(parts: Iterable[Part]) -> list[Part]:
    """Each part once, where shapes and variants are the same."""
    return list({part.name: part for part in parts}.values())


@dataclass
class Running:
    """A part at work.

    Attributes:
        part: The part.
        process: What does it.
        findings: The file that it writes its findings to.
        messages: The file that everything else goes to that it writes.
        begin: When it was started.
    """

    part: Part
    process: subprocess.Popen[bytes]
    findings: Path
    messages: Path
    begin: float

    @classmethod
    def start(cls, part: Part, settings: Settings) -> Running:
        """Starts a part."""
        folder = Path(tempfile.mkdtemp(dir=settings.folder))
        findings, messages = folder / "findings", folder / "messages"
        with findings.open("wb") as out, messages.open("wb") as err:
            process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.gpu_parts.perform", to_json(part, settings)],
                stdout=out,
                stderr=err,
                cwd=ROOT,
                env={**os.environ, **_ENVIRONMENT, "RUN_PIPELINE_CACHE": str(settings.cache)},
            )
        return cls(part, process, findings, messages, time.monotonic())

    def result(self, end: float) -> dict[str, Any]:
        """Waits for the part, at most until `end`; what it found and how it went."""
        try:
            code = self.process.wait(max(0.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            code = None
        seconds = time.monotonic() - self.begin
        findings = _findings(self.findings.read_text(encoding="utf-8"))
        errors = [each for each in findings if each["kind"] == "error"]
        if code is None:
            errors.append({"error": f"ended after {seconds:.0f} s"})
        elif code:
            errors.append({"error": f"its process ended with {code}"})
        messages = self.messages.read_text(encoding="utf-8", errors="replace")
        return {
            **asdict(self.part),
            "name": self.part.name,
            "status": "failed" if errors else "done",
            "seconds": seconds,
            "errors": [
                ": ".join(filter(None, (each.get("what"), each["error"]))) for each in errors
            ],
            "messages": messages[-_KEPT_OUTPUT:] if errors else "",
            "findings": findings,
        }


def run(
    groups: Iterable[Sequence[Part]], settings: Settings, budget_s: float, figures: Path | None
) -> dict[str, Any]:
    """Does parts, as long as there is time.

    Args:
        groups: The parts, as `plan` makes them.
        settings: What they are measured with.
        budget_s: Seconds of the whole run.
        figures: Where everything is written to after each part.

    Returns:
        The settings, and of every part its status (``done``, ``failed`` or ``skipped``), errors and
        findings; JSON values.
    """
    begin = time.monotonic()
    results: list[dict[str, Any]] = []
    report = {"settings": asdict(settings), "budget_s": budget_s, "parts": results}
    groups = list(groups)
    for group in groups:
        # The last group gets what the others had to leave.
        reserved = 0.0 if group is groups[-1] else min(_RESERVED_S, budget_s / 4)
        end = begin + budget_s - reserved
        done = _run_group(group, settings, end)
        for each in done:
            elapsed = time.monotonic() - begin
            print(f"[{elapsed:4.0f} s] {each['name']}: {each['status']}", file=sys.stderr)
            for error in each["errors"]:
                print(f"         {error}", file=sys.stderr, flush=True)
        results += done
        report["seconds"] = time.monotonic() - begin
        if figures:
            _write(figures, report)
    return report


def _run_group(group: Sequence[Part], settings: Settings, end: float) -> list[dict[str, Any]]:
    """Does parts side by side, unless there is too little time left until `end`."""
    left = end - time.monotonic()
    running = [
        Running.start(part, settings) if left > part.needed_s else _skipped(part) for part in group
    ]
    return [
        each.result(min(end, each.begin + each.part.limit_s)) if isinstance(each, Running) else each
        for each in running
    ]


def _skipped(part: Part) -> dict[str, Any]:
    return {
        **asdict(part),
        "name": part.name,
        "status": "skipped",
        "seconds": 0.0,
        "errors": [],
        "messages": "",
        "findings": [],
    }


def _findings(text: str) -> list[dict[str, Any]]:
    """The findings a part has written; the last may be torn."""
    whole, _, _ = text.rpartition("\n")
    return [json.loads(line) for line in whole.splitlines()]


def _write(path: Path, report: Mapping[str, Any]) -> None:
    """Writes JSON, so that there is a whole file at any time."""
    new = path.with_name(f"{path.name}.new")
    new.write_text(json.dumps(report, indent=1, default=str) + "\n", encoding="utf-8")
    new.replace(path)


def main() -> None:
    """Reads the command line, measures, prints."""
    parser = argparse.ArgumentParser(description="Measures the cuda target on this machine's GPU.")
    parser.add_argument(
        "--shapes",
        nargs="+",
        choices=("tiny", "1b", "8b"),
        default=["1b", "8b"],
        help="of the models, the smallest first",
    )
    parser.add_argument("--only", nargs="+", choices=KINDS, help="kinds of parts to do")
    parser.add_argument("--budget-minutes", type=float, default=8, help="of the whole run")
    parser.add_argument("--folder", type=Path, help="keeps the model files for the next run")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the figures go")
    parser.add_argument("--dry-run", action="store_true", help="a tiny model on the cpu target")
    arguments = parser.parse_args()
    target = "cpu" if arguments.dry_run else "cuda"
    groups = plan(target, ["tiny"] if arguments.dry_run else arguments.shapes)
    if arguments.only:
        wanted = {*arguments.only, "model", "machine"}
        groups = [group for group in groups if group[0].kind in wanted]
    with tempfile.TemporaryDirectory() as temporary:
        folder = (arguments.folder or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        settings = dry_settings(folder) if arguments.dry_run else Settings(target, folder)
        report = run(groups, settings, 60 * arguments.budget_minutes, arguments.json)
    print_tables(report)


if __name__ == "__main__":
    main()
