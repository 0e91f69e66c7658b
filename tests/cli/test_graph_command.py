"""``graph``: tables, one record, a picture, and files for Netron."""

from __future__ import annotations

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import onnx
import pytest
from gguf import GGMLQuantizationType as Type
from tiny_models import llama, write_gguf

from pipelines.common.errors import OpPackageError
from pipelines.common.registry.registry import Registry

GUIDE = (Path(__file__).parents[2] / "docs" / "graph.md").read_text()

PICTURE = "{http://www.w3.org/2000/svg}svg"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_gguf(tmp_path_factory.mktemp("graph") / "tiny.gguf", llama(), Type.Q8_0)


@pytest.fixture
def graph(cli, model):
    def run(*args, target="cpu"):
        arguments = ("--model-path", model, "--quantization-encoding", "auto", "--quiet")
        return cli("graph", "llama3", "--target", target, *arguments, *args)

    return run


def test_tables(graph):
    outcome = graph("--no-native-ops")
    assert outcome.code == 0, outcome.err
    lines = [" ".join(line.split()) for line in outcome.out.splitlines()]
    assert lines[0].startswith("llama3 on cpu, activations in float32;")
    assert lines[0].endswith("for one token at a context of 128")
    # A layer: 589,824 weights in q8_0, two norms; keys and values of two heads of 64 in float32.
    # Lowered, a scale is in float32: 36 bytes for 32 weights.
    weights = 2 * (256 * 256 + 128 * 256) + 3 * 512 * 256
    before, after = (weights * size / 32 + 2 * 256 * 4 for size in (34, 36))
    assert (
        f"each of 2 layers {before / 2**10:.0f} KiB 128 KiB {after / 2**10:.0f} KiB"
        in "\n".join(lines)
    )
    assert "pipelines:Linear 15 1.3 MiB -" in lines
    assert any(line.startswith("com.microsoft:MatMulNBits - 15") for line in lines)
    assert "cpu MatMulNBits 15 x Linear" in lines
    assert sum(line.endswith("tok/s for each 100 GB/s of memory bandwidth") for line in lines) == 2


def test_one_record_and_all_files(graph, tmp_path):
    picture, lowered, neutral = (tmp_path / name for name in ("a.svg", "b.onnx", "c.onnx"))
    files = ("--svg", picture, "--onnx", lowered, "--neutral-onnx", neutral)
    outcome = graph("--no-native-ops", "--context", "64", "--json", *files)
    assert outcome.code == 0, outcome.err
    record = json.loads(outcome.out)
    assert (record["pipeline"], record["target"], record["context"]) == ("llama3", "cpu", 64)

    by_operator = {operator["operator"]: operator for operator in record["operators"]}
    assert (
        by_operator["Add"]["neutral"] == by_operator["Add"]["lowered"] == {"nodes": 4, "bytes": 0}
    )
    assert by_operator["pipelines:Linear"]["lowered"]["nodes"] == 0
    total = record["total"]
    for name in ("neutral", "lowered"):
        nbytes = total[name]["weights"] + total[name]["state"]
        assert sum(operator[name]["bytes"] for operator in record["operators"]) == nbytes
        for kind in ("weights", "state", "flops"):
            parts = sum(part["times"] * part[name][kind] for part in record["parts"])
            assert parts == total[name][kind]
        assert record["tokens_per_s_at_100_gb_per_s"][name] == pytest.approx(1e11 / nbytes)
    assert [part["part"] for part in record["parts"]] == ["embedding", "each of 2 layers", "output"]
    assert {rule["rule"]: rule["nodes"] for rule in record["rules"]}["MatMulNBits"] == 15

    root = ElementTree.fromstring(picture.read_text(encoding="utf-8"))
    assert root.tag == PICTURE
    for path, domain, name in (
        (lowered, "com.microsoft", "lowered"),
        (neutral, "pipelines", "neutral"),
    ):
        opened = onnx.load(path, load_external_data=False)
        assert domain in {node.domain for node in opened.graph.node}
        assert len(opened.graph.node) == sum(o[name]["nodes"] for o in record["operators"])


@pytest.mark.parametrize("target", ["cuda", "coreml"])
def test_a_target_that_need_not_be_here(graph, target):
    outcome = graph("--json", target=target)
    assert outcome.code == 0, outcome.err
    record = json.loads(outcome.out)
    assert record["activations"] == "float16"
    lowered = [operator for operator in record["operators"] if operator["lowered"]["nodes"]]
    assert not any(operator["operator"].startswith("pipelines:") for operator in lowered)


PACKAGE = """
from pipelines.common.graph import patterns
from pipelines.common.graph.rules import Rule
from pipelines.common.program.package import OpPackage

def emit(op, x):
    return op.Mul(x, op.Sign(x))

PACKAGE = OpPackage("The amount.", {"coreml": [Rule("amount", patterns.silu, emit)]})
"""


def test_an_operator_that_the_target_has_no_kernel_for(graph, tmp_path):
    path = tmp_path / "amounts.py"
    path.write_text(PACKAGE)
    outcome = graph("--custom-ops-path", path, target="coreml")
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err == (
        "run_pipeline: error: target coreml has no kernel for Sign-13 (T float16), which rule"
        " 'amount' of op package 'amounts' emits (2 such nodes)\n"
    )


def test_layers_that_differ_are_told_apart(cli, tmp_path):
    exceptions = {"blk.1.ffn_down.weight": Type.Q4_0}
    mixed = write_gguf(tmp_path / "mixed.gguf", llama(), Type.Q8_0, exceptions=exceptions)
    arguments = ("--target", "cpu", "--model-path", mixed, "--quantization-encoding", "auto")
    outcome = cli("graph", "llama3", *arguments, "--no-native-ops", "--json")
    parts = json.loads(outcome.out)["parts"]
    assert [part["part"] for part in parts] == ["embedding", "layer 0", "layer 1", "output"]
    assert parts[1]["neutral"]["weights"] - parts[2]["neutral"]["weights"] == 512 * 256 * 16 / 32


def test_an_exported_folder_has_one_graph(cli, graph, model, tmp_path):
    folder, encoding = tmp_path / "out", ("--quantization-encoding", "auto")
    source = ("--target", "cpu", "--model-path", model, *encoding)
    assert cli("export", "llama3", folder, *source).code == 0
    there = ("--target", "cpu", "--model-path", folder)
    outcome = cli("graph", "llama3", *there, "--svg", tmp_path / "a.svg", "--json")
    assert outcome.code == 0, outcome.err
    record = json.loads(outcome.out)
    assert list(record["total"]) == ["lowered"]
    whole = json.loads(graph("--no-native-ops", "--json").out)
    assert record["total"]["lowered"] == whole["total"]["lowered"]
    assert ElementTree.parse(tmp_path / "a.svg").getroot().tag == PICTURE
    text = cli("graph", "llama3", *there).out
    assert "only the lowered graph" in text
    assert "neutral" not in text
    refused = cli("graph", "llama3", *there, "--neutral-onnx", tmp_path / "b.onnx", "--quiet")
    assert refused.code == 2
    assert "--neutral-onnx" in refused.error


@pytest.mark.parametrize(
    ("arguments", "target", "said"),
    [
        (("--context", "129"), "cpu", "--context is 129, but the model's context is 128 tokens"),
        ((), "torch", "target torch runs the network itself"),
        ((), "cpus", "unknown target 'cpus', did you mean 'cpu'?"),
    ],
)
def test_what_cannot_be_shown(graph, arguments, target, said):
    outcome = graph(*arguments, target=target)
    assert outcome.code in (1, 2)
    assert outcome.error.startswith(said)


@pytest.mark.parametrize("option", ["--svg", "--onnx", "--neutral-onnx"])
def test_a_file_that_cannot_be_written(graph, tmp_path, option):
    path = tmp_path / "nowhere" / "file"
    outcome = graph(option, path)
    assert outcome.code == 2
    assert outcome.error.startswith(f"cannot write {path}: No such file or directory")


def test_a_pipeline_without_a_graph(cli):
    outcome = cli("graph", "echo")
    assert outcome.code == 2
    assert outcome.error == "pipeline echo runs without a graph; there is nothing to show"


def test_the_guide_shows_what_is_printed(cli):
    try:
        registry = Registry.discover()
        registry.packages.load(registry.packages.typed("native"))
    except OpPackageError as error:
        pytest.skip(f"the native kernels cannot be used: {error}")
    (shown,) = re.findall(r"```\n(.*?)```", GUIDE, re.DOTALL)
    assert cli("graph", "llama3", "--target", "cpu").out == shown
