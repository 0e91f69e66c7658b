"""Runs the program in this process, on op packages in folders of the test's own."""

from __future__ import annotations

import io
import shutil
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from unittest.mock import patch

import pytest
from program_outcome import Outcome

from pipelines.common.cli import main

EXAMPLES = Path(__file__).parents[2] / "custom_ops" / "examples"

COMPILERS = ("c++", "g++", "clang++")

needs_compiler = pytest.mark.skipif(
    shutil.which("cmake") is None or not any(map(shutil.which, COMPILERS)),
    reason="compiling kernels needs CMake and a C++ compiler",
)


def program(*args: object) -> Outcome:
    """What the command line does."""
    out, err = io.StringIO(), io.StringIO()
    argv = ["run_pipeline.py", *map(str, args)]
    with (
        patch.object(sys, "argv", argv),
        redirect_stdout(out),
        redirect_stderr(err),
        pytest.raises(SystemExit) as end,
    ):
        main()
    return Outcome(int(end.value.code or 0), out.getvalue(), err.getvalue())


def silu_gate(folder: Path) -> Path:
    """The native example as a checkout has it, in `folder`."""
    ignore = shutil.ignore_patterns("lib*", "__pycache__")
    return shutil.copytree(EXAMPLES / "silu_gate", folder / "silu_gate", ignore=ignore)


def single_file(folder: Path, name: str, source: str) -> Path:
    """A package of one file."""
    path = folder / f"{name}.py"
    path.write_text(source)
    return path
