"""Whatever comes from files, plugins and the command line, it cannot command a terminal."""

from __future__ import annotations

import json
import re
import subprocess

import gguf
import numpy as np
import pytest
from batch_files import records, write_rows
from echo_plugins import with_model
from programs import Program

# Colours, a bell, a forged error, colours in 8 bits, other ends of lines, text from right to left.
EVIL = "\x1b[31m\x07\rred\nrun_pipeline: error: forged\x9b1m\x7f\u2028\u202egpj\u2066"

UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
FORGED = re.compile("^run_pipeline: error: forged", re.MULTILINE)

PLUGIN = """
from pipelines.common.registry.hookspecs import OpPackageRecord, PipelineRecord, hookimpl
from pipelines.echo.pipeline import EchoPipeline
from pathlib import Path

@hookimpl
def register_pipelines():
    return [PipelineRecord({name!r}, {summary!r}, load=EchoPipeline)]

@hookimpl
def register_op_packages():
    return [OpPackageRecord("strange", {summary!r}, Path({package!r}))]
"""

PACKAGE = """
from pipelines.common.graph import patterns
from pipelines.common.graph.rules import Rule
from pipelines.common.program.package import OpPackage

PACKAGE = OpPackage({summary!r}, {{"cpu": [Rule("mine", patterns.silu, lambda op, x: op.Mine(x))]}})
"""


def assert_harmless(*outputs):
    for output in outputs:
        assert not UNSAFE.search(output)
        assert not FORGED.search(output)


@pytest.fixture
def strange_model(tmp_path):
    """A file in which all names are strange, and so long that nobody wants to see them."""
    path = tmp_path / "model.gguf"
    writer = gguf.GGUFWriter(path, EVIL)
    writer.add_string("general.name", EVIL)
    writer.add_string(EVIL, "x" * 100_000)
    writer.add_string("k" * 60_000, EVIL)
    writer.add_array("array", [EVIL, "x" * 10_000])
    writer.add_string("tokenizer.ggml.model", EVIL)
    writer.add_tensor(EVIL[:40], np.zeros((2, 8), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_names_in_a_model_file(cli, strange_model):
    outcome = cli("inspect", strange_model)
    assert outcome.code == 0
    assert_harmless(outcome.out, outcome.err)
    assert r"general.name = " in outcome.out
    assert r"\x1b[31m\x07\rred\nrun_pipeline: error: forged\x9b1m" in outcome.out
    assert max(map(len, outcome.out.splitlines())) <= 1000
    assert EVIL in json.loads(cli("inspect", strange_model, "--json").out)["metadata"]


@pytest.mark.parametrize(
    "args",
    [
        ["llama3", "--prompt", "hi", "--model-path"],
        ["tokenize", "--text", "hi", "--model-path"],
        ["warm-cache", "llama3", "--model-path"],
        ["graph", "llama3", "--model-path"],
    ],
    ids=lambda args: args[0],
)
def test_errors_about_a_model_file(cli, strange_model, args):
    outcome = cli(*args, strange_model)
    assert outcome.code == 1
    assert len(outcome.error) < 5000  # which is one line
    assert_harmless(outcome.err)


@pytest.mark.parametrize(
    "args",
    [
        ["inspect"],
        ["echo", "--prompt-file"],
        ["echo", "--prompts-file"],
        ["echo", "--prompt", "a", "--prompt", "b", "--output"],
        ["llama3", "--prompt", "hi", "--model-path"],
        ["llama3", "--prompt", "hi", "--quiet", "--tokenizer-path"],
        ["llama3", "--prompt", "hi", "--quiet", "--custom-ops-path"],
        ["ops", "check"],
        ["ops", "build"],
        ["ops", "list"],
        ["graph", "llama3", "--model-path"],
        ["--plugin-path"],
    ],
    ids=" ".join,
)
def test_paths(cli, tmp_path, args):
    path = tmp_path / f"gone{EVIL}" / f"{EVIL}.gguf"
    outcome = cli(*args, path, *(["list"] if args == ["--plugin-path"] else []))
    assert outcome.code in (1, 2)
    assert "forged" in outcome.error
    assert_harmless(outcome.err)


@pytest.mark.parametrize(
    "args",
    [
        [EVIL],
        [f"--{EVIL}"],
        ["echo", f"--{EVIL}"],
        ["echo", EVIL],
        ["echo", "--target", EVIL],
        ["echo", "--threads", EVIL],
        ["echo", "--quantization-encoding", EVIL],
        ["cache", EVIL],
        ["tokenize", "--text", "a", "--pipeline", EVIL],
        ["graph", EVIL],
    ],
)
def test_words_of_the_command_line(cli, args):
    outcome = cli(*args)
    assert outcome.code == 2
    assert_harmless(outcome.out, outcome.err)


@pytest.mark.parametrize("args", [["list"], ["--help"], ["good", "--help"], ["ops", "list"]])
def test_what_plugins_say_of_themselves(cli, make_plugin, tmp_path, args):
    package = tmp_path / "package.py"
    package.write_text(PACKAGE.format(summary=EVIL))
    good = make_plugin("good", PLUGIN.format(name="good", summary=EVIL, package=str(package)))
    outcome = cli("--plugin-path", good, *args)
    assert outcome.code == 0
    assert "forged" in outcome.out
    assert_harmless(outcome.out, outcome.err)


@pytest.mark.parametrize(
    "source",
    [
        PLUGIN.format(name=EVIL, summary="", package="p"),
        f"raise ValueError({EVIL!r})",
        f"raise SystemExit({EVIL!r})",
    ],
    ids=["name", "error", "exit"],
)
def test_plugins_that_fail(cli, make_plugin, source):
    outcome = cli("--plugin-path", make_plugin("bad", source), "list")
    assert outcome.code == 0
    assert "was skipped" in outcome.err
    assert_harmless(outcome.out, outcome.err)


def test_a_traceback(process, make_plugin):
    path = make_plugin("bad", f"raise ValueError({EVIL!r})")
    outcome = process("--strict-plugins", "--plugin-path", path, "list")
    assert outcome.code == 1
    assert "Traceback (most recent call last):\n" in outcome.err
    assert "\\x1b[31m" in outcome.err
    assert not UNSAFE.search(outcome.err)


def test_notices_and_details_are_one_line(cli, make_plugin):
    telling = """
class Model(EchoModel):
    def describe(self):
        return {"model": EVIL, EVIL: 1}
"""
    path = make_plugin("telling", with_model("telling", f"EVIL = {EVIL!r}\n{telling}"))
    outcome = cli("--plugin-path", path, "telling", "--prompt", "hi", "--verbose")
    assert outcome.code == 0
    assert_harmless(outcome.err)


# What is generated

PIECES = "a\x1b[31mb\tc\r\nd\x9b31me\x7f\u2028f\u202eg\x07👩‍🚀é"
SHOWN = "a[31mb\tc\nd31mefg👩‍🚀é"


def on_terminal(*args):
    program = Program(*args, terminal=["stdout"], stdin=subprocess.DEVNULL)
    code, _, err = program.ended()
    assert code == 0, err
    return program.shown.whole().replace("\r\n", "\n")


def test_a_text_on_a_terminal_has_no_control_characters():
    assert on_terminal("echo", "--prompt", PIECES, "--quiet") == f"{SHOWN}\n"


def test_a_text_in_a_pipe_is_as_it_is(process):
    assert process("echo", "--prompt", PIECES, "--quiet").out == PIECES


def test_texts_of_a_batch_on_a_terminal():
    shown = on_terminal("echo", "--prompt", PIECES, "--prompt", "b", "--quiet", "--ordered")
    assert shown == f"{SHOWN}\nb\n"


def test_records_are_the_same_and_harmless_wherever_they_go(tmp_path):
    file = write_rows(tmp_path / "prompts.jsonl", {"id": PIECES, "prompt": PIECES})
    shown = on_terminal("echo", "--prompts-file", file, "--quiet")
    assert_harmless(shown)
    (record,) = records(shown)
    assert (record["id"], record["text"]) == (PIECES, PIECES)
    assert "👩‍🚀é" in shown


@pytest.mark.parametrize("args", [["echo", "--prompt", PIECES, "--json"], ["tokenize", "--json"]])
def test_other_records(cli, args):
    args += ["--text", PIECES, "--pipeline", "echo"] if args[0] == "tokenize" else []
    outcome = cli(*args)
    json.loads(outcome.out)
    assert_harmless(outcome.out)


def test_pieces_of_a_text(cli):
    outcome = cli("tokenize", "--text", PIECES, "--pipeline", "echo")
    assert outcome.code == 0
    assert_harmless(outcome.out)
