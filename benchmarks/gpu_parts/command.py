"""The program itself, as a user calls it, for `benchmarks.gpu`: torch brings it no libraries."""

from __future__ import annotations

import subprocess
import sys
import time

from benchmarks.engine import ROOT
from benchmarks.gpu_parts.part import Part, Recorder, Settings

_TOKENS = 32
_LIMIT_S = 60


def command(_part: Part, settings: Settings, recorder: Recorder) -> None:
    """Records what `targets` says, and the bundled model's text on the target and on torch."""
    with recorder.attempt("targets"):
        _record(recorder, "targets", "targets")
    for target in ("torch", settings.target):
        with recorder.attempt(f"llama3 on {target}"):
            tokens = ("--max-new-tokens", str(_TOKENS))
            _record(recorder, f"llama3 on {target}", "llama3", "--target", target, *tokens)


def _record(recorder: Recorder, what: str, *arguments: str) -> None:
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, ROOT / "run_pipeline.py", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=_LIMIT_S,
    )
    recorder.record(
        "command",
        what=what,
        code=done.returncode,
        seconds=time.perf_counter() - begin,
        text=done.stdout,
        messages=done.stderr,
    )
    if done.returncode:
        raise RuntimeError(done.stderr.strip().rpartition("\n")[2])
