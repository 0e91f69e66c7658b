"""Wherever a package can fail, one line names it, and its rule or layout where it is one's."""

from __future__ import annotations

from pathlib import Path

import pytest
from libraries import SILU, SUFFIX, compile_library
from ops_program import program
from tiny_models import llama, write_gguf

HEAD = """
import numpy as np
from pipelines.common.graph import patterns
from pipelines.common.graph.rules import Rule
from pipelines.common.program.package import OpPackage

def emit(op, x):
    return op.Mul(x, op.Sigmoid(x))

def laid_out(op, x, weight):
    made = op.weight(weight, "mine", op.shape(weight), np.float32)
    return op.MatMul(x, op.Transpose(made, perm=[1, 0]))

def broken(*args, **bound):
    return 1 / 0

def package(pattern=patterns.silu, emit=emit, **more):
    return OpPackage("Example.", {"cpu": [Rule("mine", pattern, emit)]}, **more)

"""

EMIT = "op package 'broken': emit of rule 'mine' fails: "
RULE = "rule 'mine' of op package 'broken'"
LAYOUT = "op package 'broken': layout 'mine' fails: "

FAILURES = {
    "module": ("1 / 0", ["op package 'broken'", "ZeroDivisionError"]),
    "module ends": ("raise SystemExit", ["op package 'broken'", "SystemExit"]),
    "pattern": (
        "package(lambda op, x: op.SiLU(x.shape))",
        ["op package 'broken': the pattern of rule 'mine' fails: AttributeError"],
    ),
    "emit": (
        "package(emit=broken)",
        [EMIT, "ZeroDivisionError", "--strict-plugins before the command shows where"],
    ),
    "emit ends": ("package(emit=lambda op, x: exit())", [EMIT, "SystemExit"]),
    "emit's parameters": ("package(emit=lambda op, y: y)", [EMIT, "TypeError"]),
    "emit's attribute": (
        "package(emit=lambda op, x: op.Mul(x, op.Sigmoid(x, wrong=object())))",
        [EMIT],
    ),
    "emit's result": ("package(emit=lambda op, x: 3)", [RULE, "emits int; expected 1"]),
    "emit's results": ("package(emit=lambda op, x: [x, x])", [RULE, "emits Value, Value"]),
    "no results": ("package(emit=lambda op, x: ())", [RULE, "emits nothing; expected 1"]),
    "emit's weight": (
        "package(emit=lambda op, x: op.Mul(x, op.weight(x, 'float32', (1,))))",
        [EMIT, "is no weight"],
    ),
    "an input that is none": ("package(emit=lambda op, x: op.Mul(x, 'y'))", ["'broken'"]),
    "no layout": (
        "package(patterns.linear, laid_out)",
        ["op package 'broken' wants", "'mine', a layout that neither it nor the target has"],
    ),
    "layout": (
        "package(patterns.linear, laid_out, layouts={'mine': broken})",
        [LAYOUT, "ZeroDivisionError"],
    ),
    "layout's result": (
        "package(patterns.linear, laid_out, layouts={'mine': lambda encoding, stored: 'x'})",
        ["layout 'mine' of op package 'broken' made a str of"],
    ),
    "layout's shape": (
        "package(patterns.linear, laid_out, layouts={'mine': lambda e, s: s[:1]})",
        ["layout 'mine' of op package 'broken' made uint8"],
    ),
    "operators": ("package(operators=broken)", ["op package 'broken': operators fails: Zero"]),
    "NaN": (
        "package(emit=lambda op, x: op.Mul(op.Sub(x, x), op.Constant(value_float=np.nan)))",
        [f"either {RULE} is wrong, which 'run-pipeline ops check' tells, or the weights are"],
    ),
    "an operator that nobody has": (
        "package(emit=lambda op, x: op.Ghost(x, _domain='house'))",
        ["nobody has operator Ghost of domain 'house', which rule 'mine' of op package 'broken'"],
    ),
}


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gguf(tmp_path_factory.mktemp("model") / "model.gguf", llama())


def failure(model_file: Path, *packages: Path, before: tuple[str, ...] = ()) -> str:
    """The line with which a run ends."""
    named = [word for path in packages for word in ("--custom-ops-path", path)]
    return program(
        *(*before, "llama3", "--model-path", model_file, *named),
        *("--target", "cpu", "--no-native-ops", "--quantization-encoding", "float32"),
        *("--prompt", "th", "--max-new-tokens", 2, "--quiet"),
    ).error


@pytest.mark.parametrize("part", FAILURES)
def test_what_fails_is_named(model_file: Path, tmp_path: Path, part: str) -> None:
    code, said = FAILURES[part]
    path = tmp_path / "broken.py"
    assigned = code if code.startswith(("1", "raise")) else f"PACKAGE = {code}"
    path.write_text(f"{HEAD}{assigned}\n")
    message = failure(model_file, path)
    assert all(words in message for words in said), message


@pytest.mark.parametrize("part", ["module", "emit", "layout", "operators"])
def test_strict_shows_where(model_file: Path, tmp_path: Path, part: str) -> None:
    path = tmp_path / "broken.py"
    code, _ = FAILURES[part]
    path.write_text(f"{HEAD}{code if code[0] == '1' else f'PACKAGE = {code}'}\n")
    with pytest.raises(ZeroDivisionError):
        failure(model_file, path, before=("--strict-plugins",))


@pytest.mark.parametrize(
    ("variable", "said"),
    [
        ("SILU_CANNOT_BE_MADE", "a kernel of op package 'kernels' cannot be made: SiLU: no room"),
        ("SILU_FAILS", "operator SiLU of op package 'kernels' failed: a number is odd"),
    ],
)
def test_kernels_that_fail(
    model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, said: str
) -> None:
    monkeypatch.setenv(variable, "1")
    assert said in failure(model_file, compile_library(tmp_path / f"kernels{SUFFIX}", SILU))


def test_a_library_that_is_none(model_file: Path, tmp_path: Path) -> None:
    path = tmp_path / f"kernels{SUFFIX}"
    path.write_text("No library." * 100)
    assert str(path) in failure(model_file, path)


def test_kernels_of_two_packages_in_one_domain(model_file: Path, tmp_path: Path) -> None:
    paths = [
        compile_library(
            tmp_path / f"{name}{SUFFIX}",
            SILU.replace("SiLU, Embedding)", f"{kernel})"),
        )
        for name, kernel in {"one": "SiLU", "other": "Embedding"}.items()
    ]
    assert (
        "op packages 'other' and 'one' have kernels in one domain, which ONNX Runtime takes from"
        " one library only"
    ) in failure(model_file, *paths)
