"""The program as a whole: its help, its commands, plugins, completion, and what it imports."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

import pipelines

PLUGIN = """
from pipelines.common.registry.hookspecs import PipelineRecord, hookimpl
from pipelines.echo.pipeline import EchoPipeline

@hookimpl
def register_pipelines():
    return [PipelineRecord("{name}", "Summary of {name}.", load=EchoPipeline)]
"""

HEAVY = (
    "jinja2",
    "prompt_toolkit",
    "torch",
    "onnx",
    "onnxscript",
    "onnx_ir",
    "sympy.core",
    "onnx.reference.ops._op_list",
    "onnxruntime",
    "transformers",
    "gguf",
    "numpy",
)


def test_help_names_every_command(cli):
    outcome = cli("--help")
    assert outcome.code == 0
    for command in ("llama3", "echo", "list", "inspect", "tokenize", "cache"):
        assert re.search(rf"^  {command} +\w", outcome.out, re.MULTILINE)


def test_nothing_at_all_shows_the_help(cli):
    assert cli() == cli("--help")


@pytest.mark.parametrize("order", [1, -1])
def test_help_names_the_pipelines_of_plugins(cli, make_plugin, order):
    path = make_plugin("mine", PLUGIN.format(name="mine"))
    args = [("--plugin-path", path), ("--help",)][::order]
    assert "Summary of mine." in cli(*(word for arg in args for word in arg)).out


def test_plugins_come_from_the_environment(process, make_plugin):
    paths = [make_plugin(name, PLUGIN.format(name=name)) for name in ("one", "two")]
    environment = {"RUN_PIPELINE_PLUGIN_PATH": ":".join(map(str, paths))}
    shown = process("--help", **environment).out
    assert "Summary of one." in shown
    assert "Summary of two." in shown
    assert process("two", "--prompt", "hi", "--quiet", **environment).out == "hi"


def test_a_plugin_that_fails_is_reported_once_and_the_rest_goes_on(cli, make_plugin):
    bad = make_plugin("bad", "1 / 0")
    outcome = cli("--plugin-path", bad, "echo", "--prompt", "hi", "--quiet")
    assert (outcome.code, outcome.out) == (0, "hi")
    assert outcome.err == (
        f"run_pipeline: plugin 'bad' ({bad}) was skipped: ZeroDivisionError: division by zero\n"
    )


def test_a_plugin_that_fails_is_a_traceback_when_strict(process, make_plugin):
    bad = make_plugin("bad", "1 / 0")
    outcome = process("list", RUN_PIPELINE_STRICT_PLUGINS="1", RUN_PIPELINE_PLUGIN_PATH=str(bad))
    assert outcome.code == 1
    assert "Traceback" in outcome.err
    assert "ZeroDivisionError" in outcome.err


def test_a_target_that_fails_is_passed_over(cli, make_plugin):
    path = make_plugin(
        "failing",
        """
from pipelines.common.registry.hookspecs import TargetRecord, hookimpl

def load():
    1 / 0

@hookimpl
def register_targets():
    return [TargetRecord("failing", "Fails.", requires=(), load=load, preference=99)]
""",
    )
    said = f"plugin 'failing' ({path}): 'failing' fails: ZeroDivisionError: division by zero"
    outcome = cli("--plugin-path", path, "echo", "--prompt", "hi")
    assert (outcome.code, outcome.out) == (0, "hi")
    assert outcome.err.startswith(f"run_pipeline: target 'failing' is passed over: {said}\n")
    outcome = cli("--plugin-path", path, "targets")
    assert outcome.code == 0
    assert f"failing  not here: {said}\n" in outcome.out
    outcome = cli("--plugin-path", path, "echo", "--prompt", "hi", "--target", "failing")
    assert outcome.code == 1
    assert outcome.error == f"target 'failing' cannot run here: {said}"


def test_a_plugin_path_that_does_not_exist_is_wrong_usage(cli, tmp_path):
    outcome = cli("--plugin-path", tmp_path / "none", "list")
    assert outcome.code == 2
    assert "no such plugin path" in outcome.error


def test_an_unknown_pipeline_suggests_the_nearest(cli):
    outcome = cli("lama3", "--prompt", "hi")
    assert outcome.code == 2
    assert "unknown pipeline or command 'lama3', did you mean 'llama3'?" in outcome.error
    assert "echo" in outcome.error


@pytest.mark.parametrize("args", [["--nonsense"], ["echo", "--nonsense"], ["echo", "extra"]])
def test_unknown_options_are_wrong_usage(cli, args):
    assert cli(*args).code == 2


def test_version(cli):
    assert cli("--version").out == f"run_pipeline {pipelines.__version__}\n"


def imported(*args):
    """The heavy modules that a run of the program, in a process of its own, has imported."""
    code = (
        f"import sys; sys.argv = ['run_pipeline.py', *{args!r}]\n"
        "from pipelines.common.cli import main\n"
        "try: main()\n"
        f"finally: print('imported', *[m for m in {HEAVY!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    # As whatever is printed but by the program itself, it comes on stderr.
    first, *modules = done.stderr.split()
    assert first == "imported"
    return modules


@pytest.mark.parametrize("args", [["--help"], ["list"], ["llama3", "--help"]])
def test_nothing_heavy_is_imported_to_tell_what_there_is(args):
    assert imported(*args) == []


@pytest.mark.usefixtures("own_cache")
def test_no_start_of_a_model_imports_pytorch():
    """Not even the first, which makes the graph: ONNX is imported for that, so it is made.

    What `onnx_ir` and `onnxscript` import and hardly ever use is not looked into.
    """
    run = ("llama3", "--target", "cpu", "--prompt", "x", "--max-new-tokens", "1", "--quiet")
    first, second = imported(*run), imported(*run)
    assert {"torch", "transformers", "sympy.core", "onnx.reference.ops._op_list"}.isdisjoint(first)
    assert {"onnx", "onnx_ir"} <= set(first)
    assert {"torch", "transformers", "onnx", "onnx_ir"}.isdisjoint(second)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["ec"], ["echo"]),
        (["min"], ["minilm", "mine"]),
        (["echo", "--quant"], ["--quantization-encoding"]),
        (["echo", "--target", ""], ["auto", "cpu", "cuda", "coreml", "torch"]),
        (["mine", "--target", "t"], ["torch"]),
        (["echo", "--quantization-encoding", "q"], ["q4_0", "q8_0"]),
        (["cache", "c"], ["clear"]),
    ],
)
def test_shells_complete_sub_commands_and_values(cli, monkeypatch, make_plugin, words, expected):
    path = make_plugin("mine", PLUGIN.format(name="mine"))
    bad = make_plugin("bad", "1 / 0")
    monkeypatch.setenv("_RUN_PIPELINE.PY_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", " ".join(["run_pipeline.py", *words]))
    monkeypatch.setenv("COMP_CWORD", str(len(words)))
    monkeypatch.setenv("RUN_PIPELINE_PLUGIN_PATH", f"{path}:{bad}")
    outcome = cli()
    assert outcome.out.split() == expected
    assert outcome.err == ""


def test_completion_can_be_shown(process):
    outcome = process("--show-completion", "bash")
    assert "complete" in outcome.out
