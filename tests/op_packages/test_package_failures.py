"""Wherever a package can fail, one line names it, and its rule or layout where it is one's."""

from __future__ import annotations

from pathlib import Path

import pytest
from libraries import SILU, SUFFIX, compile_library
from ops_program import program
from tiny_models import llama, write_gguf

from pipelines.common.errors import OpPackageError
from pipelines.common.op_packages.find import FoundPackage
from pipelines.common.op_packages.load import load_package

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
    "a constant that is none": (
        "package(emit=lambda op, x: op.Mul(x, op.Constant(value_float='x')))",
        [f"{RULE} emits what ONNX cannot express: ValueError"],
    ),
    "a domain that is none": (
        "package(emit=lambda op, x: op.Sigmoid(x, _domain=3))",
        [f"{RULE} emits a node Sigmoid that ONNX cannot express"],
    ),
    "a weight's shape that is none": (
        "package(patterns.linear, lambda op, x, weight: op.weight(weight, 'float32', 'abc'))",
        [EMIT, "TypeError"],
    ),
    "a weight's layout that is none": (
        "package(patterns.linear, lambda op, x, weight: op.weight(weight, 7, op.shape(weight)))",
        [EMIT, "the layout 7 is no name"],
    ),
    "a weight of another size": (
        "package(patterns.linear, lambda op, x, weight: op.weight(weight, 'float32', (1, 2)))",
        [EMIT, "bytes as float32, and is wanted as float32 [1, 2]"],
    ),
    "a weight of another type": (
        "package(patterns.linear, lambda op, x, weight:"
        " op.weight(weight, 'stored', op.shape(weight), np.int64))",
        [EMIT, "bytes as stored, and is wanted as int64"],
    ),
    "a shape that fits nowhere": (
        "package(emit=lambda op, x: op.Reshape(x, op.Constant(value_ints=[7])))",
        [f"ONNX Runtime refuses the graph that {RULE} has a part in", "Incompatible dimensions"],
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
    message = failure(model_file, path)
    assert message.startswith("op package 'kernels': ")
    assert str(path) in message


OPERATOR = """
from pipelines.plugin import OpPackage, Rule, neutral_operator

def shape(x):
    {shape}
    return x

def operators():
    @neutral_operator("{name}", shape)
    def reference(x):
        {reference}
        return x * 2

def pattern(op, x):
    return op.{name}(x)

PACKAGE = OpPackage(
    "An operator.",
    {{"cpu": [Rule("mine", pattern, lambda op, x: op.Add(x, x))]}},
    operators=operators,
)
"""

USER = """
from pipelines.plugin import DecoderConfig, decoder, hookimpl

def build(config: DecoderConfig):
    from pipelines.plugin import nn, ops

    class Doubled(nn.Decoder):
        def logits(self, x):
            return super().logits(ops.operator("{name}")(x))

    return Doubled(config, [nn.Block(config) for _ in range(config.layers)])

@hookimpl
def register_pipelines():
    return [decoder("doubled", "D.", architectures=("llama",), network=f"{{__name__}}:build")]
"""


@pytest.mark.parametrize(
    ("part", "target", "what"),
    [("shape", "cpu", "the shape rule"), ("reference", "torch", "the reference")],
)
def test_functions_of_new_operators(
    model_file: Path, tmp_path: Path, part: str, target: str, what: str
) -> None:
    name = f"Failing{part.capitalize()}"
    code = {"shape": "pass", "reference": "pass", part: "1 / 0"}
    path, plugin = tmp_path / f"{part}.py", tmp_path / "doubled.py"
    path.write_text(OPERATOR.format(name=name, **code))
    plugin.write_text(USER.format(name=name))
    message = program(
        *("--plugin-path", plugin, "doubled", "--model-path", model_file),
        *("--custom-ops-path", path, "--target", target, "--no-native-ops"),
        *("--quantization-encoding", "float32", "--prompt", "th", "--max-new-tokens", 2, "--quiet"),
    ).error
    assert f"op package '{part}': {what} of {name} fails: ZeroDivisionError" in message


def test_bugs_of_the_project_keep_their_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only those: a stranger's package may be called like the project's own."""
    for folder in ("own", "other"):
        (tmp_path / folder / "native").mkdir(parents=True)
        (tmp_path / folder / "native" / "op_package.toml").write_text('module = "rules.py"')
        rules = f"{HEAD}PACKAGE = package(emit=broken)\n"
        (tmp_path / folder / "native" / "rules.py").write_text(rules)
    monkeypatch.setattr("pipelines.common.op_packages.load.shipped", lambda _: tmp_path / "own")
    for folder, error in {"own": ZeroDivisionError, "other": OpPackageError}.items():
        found = FoundPackage("native", tmp_path / folder / "native", typed=False)
        package = load_package(found, targets=("cpu",))
        assert package.shipped == (folder == "own")
        with pytest.raises(error):
            package.rules("cpu")[0].emit(None, x=1)


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
