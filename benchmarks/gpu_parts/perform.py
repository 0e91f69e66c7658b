"""Does a part of `benchmarks.gpu`, in a process of its own, which this is the start of.

A fault of the GPU ends nothing but it. What a part finds goes to stdout as it is found, a JSON
object a line.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.gpu_parts.part import Part, Recorder, Settings


def perform(part: Part, settings: Settings, recorder: Recorder) -> None:
    """Does a part; what goes wrong in it is recorded."""
    with recorder.attempt(part.name):
        KINDS[part.kind]()(part, settings, recorder)


def _machine() -> Work:
    from benchmarks.gpu_parts.machine import machine

    return machine


def _model() -> Work:
    from benchmarks.gpu_parts.model import make

    return make


def _speed() -> Work:
    from benchmarks.gpu_parts.speed import speed

    return speed


def _parity() -> Work:
    from benchmarks.gpu_parts.parity import parity

    return parity


def _products() -> Work:
    from benchmarks.gpu_parts.products import products

    return products


def _command() -> Work:
    from benchmarks.gpu_parts.command import command

    return command


def _operators() -> Work:
    from benchmarks.gpu_parts.profile import operators

    return operators


Work = Callable[[Part, Settings, Recorder], None]

KINDS: Mapping[str, Callable[[], Work]] = {
    "machine": _machine,
    "model": _model,
    "speed": _speed,
    "parity": _parity,
    "products": _products,
    "operators": _operators,
    "command": _command,
}
"""What does each kind of part; imported only by the process that does it."""


def _from_json(text: str) -> tuple[Part, Settings]:
    part, settings = json.loads(text)
    for name in ("batches", "prompts"):
        settings[name] = tuple(settings[name])
    return Part(**part), Settings(**{**settings, "folder": Path(settings["folder"])})


def main() -> None:
    """Does the part that the command line names."""
    # What libraries print must not come between the findings.
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    part, settings = _from_json(sys.argv[1])
    perform(part, settings, Recorder(out))


if __name__ == "__main__":
    main()
