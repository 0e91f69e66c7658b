"""What a custom op package is. Light: packages import it without torch, ONNX or ONNX Runtime."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pipelines.common.encodings import Encoding
from pipelines.common.graph.rules import Rule

Layout: TypeAlias = Callable[[Encoding, NDArray[np.uint8]], NDArray[Any]]
"""Makes a tensor of a weight's rows ``[rows, row_bytes]`` in the encoding that it runs in."""


@dataclass(frozen=True)
class OpPackage:
    """What the Python module of a package has under the name ``PACKAGE``.

    Attributes:
        summary: One line for ``list``.
        rules: What it rewrites, by target; of two that fit, the first wins.
        layouts: How it lays weights out, by the name that its rules use.
        operators: Declares new neutral operators, each with its shape rule and
            its reference; called before a network is made.
    """

    summary: str
    rules: Mapping[str, Sequence[Rule]] = field(default_factory=dict)
    layouts: Mapping[str, Layout] = field(default_factory=dict)
    operators: Callable[[], object] | None = None


@dataclass(frozen=True)
class LoadedPackage:
    """A package that was found at a path, checked, and whose module was imported.

    Attributes:
        name: Of the folder or the file, without its ending.
        path: The folder or file.
        contents: What its module says; for a bare library, rules for the operators it has.
        library: The shared library with its kernels, if it has one.
        named: Whether the user named it, rather than a plugin or the project.
        shipped: Whether it is the project's own.
    """

    name: str
    path: Path
    contents: OpPackage
    library: Path | None = None
    named: bool = False
    shipped: bool = False

    def rules(self, target: str) -> tuple[Rule, ...]:
        """Its rules for a target."""
        return tuple(self.contents.rules.get(target, ()))

    def declare_operators(self) -> None:
        """Declares the operators that it brings, if that has not been done in this process.

        Raises:
            OpPackageError: It fails, as where one of them is declared already, by another package
                or by the project.
        """
        if self.contents.operators is not None:
            _declare(self.contents.operators)


@functools.cache
def _declare(operators: Callable[[], object]) -> None:
    """Calls a package's function once in a process."""
    operators()
