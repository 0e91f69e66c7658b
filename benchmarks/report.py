"""What every benchmark prints beside its figures: the machine, and tables."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

_PACKAGES = ("onnxruntime", "onnxruntime-gpu", "torch", "numpy", "tokenizers")
_FEATURES = ("avx2", "avx512f", "avx512_vnni", "amx_int8", "asimddp", "i8mm")
"""What the speed of int8 products depends on most."""


def machine() -> dict[str, str]:
    """The facts that figures depend on: date, processor, memory, software."""
    model, flags = _processor()
    features = [name for name in _FEATURES if name in flags]
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "processor": f"{model}, {cores()} cores" + "".join(f", {name}" for name in features),
        "memory": f"{memory:.1f} GiB",
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "packages": ", ".join(_installed()),
    }


def cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def print_machine() -> None:
    """Prints the facts as a list, then a blank line."""
    for name, fact in machine().items():
        print(f"- {name}: {fact}")
    print()


def print_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Prints a Markdown table; floats get three significant digits."""
    print("|", " | ".join(header), "|")
    print("|", " | ".join("---" for _ in header), "|")
    for row in rows:
        print("|", " | ".join(map(_cell, row)), "|")


def median(values: Iterable[float]) -> float:
    """The middle one, so that a disturbed run does not count."""
    return statistics.median(values)


def _cell(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _processor() -> tuple[str, Sequence[str]]:
    """Its name, and the names of its features as Linux spells them."""
    if sys.platform == "darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(
            command, capture_output=True, text=True, check=True
        ).stdout.strip(), ()
    fields: dict[str, str] = {}
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    flags = fields.get("flags", fields.get("Features", "")).split()
    return fields.get("model name", platform.machine()), flags


def _installed() -> Iterable[str]:
    for name in _PACKAGES:
        try:
            yield f"{name} {importlib.metadata.version(name)}"
        except importlib.metadata.PackageNotFoundError:
            continue
