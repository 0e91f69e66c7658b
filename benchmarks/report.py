"""What every benchmark prints beside its figures: the machine, and tables."""

from __future__ import annotations

import importlib.metadata
import platform
import statistics
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from pipelines.common.system import cores, processor, processor_features, total_memory

_PACKAGES = ("onnxruntime", "onnxruntime-gpu", "torch", "numpy", "tokenizers")
_FEATURES = {"avx2", "avx512f", "avx512_vnni", "amx_int8", "asimddp", "i8mm"}
"""What the speed of int8 products depends on most."""


def machine() -> dict[str, str]:
    """The facts that figures depend on: date, processor, memory, software."""
    features = sorted(processor_features() & _FEATURES)
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "processor": f"{processor()}, {cores()} cores" + "".join(f", {name}" for name in features),
        "memory": f"{total_memory() / 2**30:.1f} GiB",
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "packages": ", ".join(_installed()),
    }


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


def _installed() -> Iterable[str]:
    for name in _PACKAGES:
        try:
            yield f"{name} {importlib.metadata.version(name)}"
        except importlib.metadata.PackageNotFoundError:
            continue
