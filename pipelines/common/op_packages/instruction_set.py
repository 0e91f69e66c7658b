"""Which instruction set the project's own kernels take, told without loading them.

They choose themselves when they first compute, see `custom_ops/native/src/cpu.cpp`.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pipelines.common.system import processor_features

VARIABLE: Final = "PIPELINE_NATIVE_ISA"

_AVX2: Final = ("avx2", "fma", "f16c")

SETS: Final[Mapping[str, tuple[str, ...]]] = {
    "avx512-vnni": (*_AVX2, "avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_vnni"),
    "avx-vnni": (*_AVX2, "avx_vnni"),
    "avx2": _AVX2,
    "neon-dotprod": ("asimddp",),
    "portable": (),
}
"""What a processor must have for each, as Linux spells it; the best first."""


@dataclass(frozen=True)
class Choice:
    """What a build takes here.

    Attributes:
        name: The instruction set; empty where it would refuse to compute.
        built: Those that the build has kernels for.
        problem: What is wrong, if something is.
    """

    name: str
    built: tuple[str, ...]
    problem: str = ""


def choice(library: Path, features: Collection[str] | None = None) -> Choice:
    """What the kernels in a library take on this processor.

    Args:
        library: The library.
        features: What the processor can do; None asks the system.

    Raises:
        OSError: It cannot be read.
    """
    content = library.read_bytes()
    built = tuple(name for name in SETS if b"%b\0" % name.encode() in content)
    have = _features() if features is None else features
    usable = [name for name in built if set(SETS[name]) <= set(have)]
    wanted = os.environ.get(VARIABLE)
    if wanted is None:
        return Choice(usable[0] if usable else "", built)
    if wanted in usable:
        return Choice(wanted, built)
    why = "which this processor lacks" if wanted in built else f"expected one of {', '.join(built)}"
    return Choice("", built, f"{VARIABLE} is {wanted}, {why}")


def _features() -> frozenset[str]:
    if sys.platform == "darwin" and platform.machine() == "arm64":
        return frozenset(SETS["neon-dotprod"])  # all of Apple's have them
    return processor_features()
