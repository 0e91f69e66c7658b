"""`inspect` on files written by the gguf package."""

from __future__ import annotations

import json
import math
import struct
import sys

import gguf
import numpy as np
import pytest

from pipelines.common.cli.memory import memory_lines
from pipelines.common.text.byte_alphabet import byte_alphabet
from pipelines.llama3.pipeline import BUNDLED


@pytest.fixture
def write_model(tmp_path):
    def write(name="model.gguf", tokenizer=True):
        path = tmp_path / name
        writer = gguf.GGUFWriter(path, "llama")
        writer.add_block_count(2)
        writer.add_float32("odd.value", float("-inf"))
        writer.add_string("odd.text", "bell\x07 and \x9b")
        writer.add_array("long.array", list(range(1000)))
        if tokenizer:
            alphabet = list(byte_alphabet())
            writer.add_tokenizer_model("gpt2")
            writer.add_tokenizer_pre("llama-bpe")
            writer.add_token_list([*alphabet, "ab", "<|eot_id|>"])
            writer.add_token_types([1] * 257 + [3])
            writer.add_token_merges(["a b"])
            writer.add_eos_token_id(257)
            writer.add_add_bos_token(False)
        writer.add_tensor("plain.weight", np.zeros((3, 64), np.float32))
        writer.add_tensor("half.weight", np.zeros(32, np.float16))
        quantized = gguf.quantize(np.ones((4, 64), np.float32), gguf.GGMLQuantizationType.Q4_0)
        writer.add_tensor("q.weight", quantized, raw_dtype=gguf.GGMLQuantizationType.Q4_0)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path

    return write


def test_json_holds_everything_in_short(cli, write_model):
    path = write_model()
    record = json.loads(cli("inspect", path, "--json").out)
    assert record["path"] == str(path)
    assert record["format"] == "GGUF v3"
    assert record["metadata"]["general.architecture"] == "llama"
    assert record["metadata"]["llama.block_count"] == 2
    assert record["metadata"]["odd.value"] == "-inf"
    assert record["metadata"]["long.array"] == {"length": 1000, "first": [0, 1, 2, 3]}
    assert record["metadata"]["tokenizer.ggml.merges"] == ["a b"]
    assert record["tokenizer"]["vocab_size"] == 258
    assert record["tokenizer"]["end"] == [{"id": 257, "piece": "<|eot_id|>"}]
    assert record["tensors"][2] == {
        "name": "q.weight",
        "shape": [4, 64],
        "encoding": "q4_0",
        "supported": True,
        "bytes": 4 * 2 * 18,
    }
    assert record["totals"] == {
        "tensors": 3,
        "parameters": 192 + 32 + 256,
        "bytes": 192 * 4 + 32 * 2 + 144,
        "by_encoding": {
            "q4_0": {"parameters": 256, "bytes": 144},
            "f32": {"parameters": 192, "bytes": 768},
            "f16": {"parameters": 32, "bytes": 64},
        },
    }


def test_text_holds_the_same_and_nothing_that_moves_the_cursor(cli, write_model):
    out = cli("inspect", write_model()).out
    assert "GGUF v3, 480 parameters, 976 B" in out
    assert "long.array = 1000 elements: [0, 1, 2, 3, ...]" in out
    assert "vocab_size = 258" in out
    (line,) = [line for line in out.splitlines() if "q.weight" in line]
    assert line.split() == ["q.weight", "4", "x", "64", "q4_0", "144", "B"]
    assert out.replace("\n", "").isprintable()


def test_a_file_without_a_tokenizer(cli, write_model):
    path = write_model(tokenizer=False)
    assert "the file has no tokenizer" in cli("inspect", path).out
    assert json.loads(cli("inspect", path, "--json").out)["tokenizer"] is None


def test_a_tokenizer_that_cannot_be_used_is_no_reason_to_fail(cli, tmp_path):
    path = tmp_path / "other.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model("no-such-kind")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    outcome = cli("inspect", path, "--json")
    assert outcome.code == 0
    assert "no-such-kind" in json.loads(outcome.out)["tokenizer"]["unusable"]


def test_what_cannot_be_run_or_read_is_listed(cli, write_model):
    """An encoding that ggml has removed, and text in another encoding than UTF-8."""
    path = write_model(tokenizer=False)
    data = path.read_bytes().replace(b"bell", b"b\xe9ll")
    shape = struct.pack("<IQQ", 2, 64, 4)
    q4_0, q4_0_4_8 = (b"q.weight" + shape + struct.pack("<I", number) for number in (2, 32))
    path.write_bytes(data.replace(q4_0, q4_0_4_8))
    record = json.loads(cli("inspect", path, "--json").out)
    assert record["metadata"]["odd.text"].startswith(r"b\xe9ll")
    assert (record["tensors"][2]["encoding"], record["tensors"][2]["supported"]) == (
        "q4_0_4_8",
        False,
    )
    out = cli("inspect", path).out
    (line,) = [line for line in out.splitlines() if "q.weight" in line]
    assert line.split(maxsplit=5)[4:] == ["q4_0_4_8", "144 B  (cannot be run)"]


@pytest.mark.parametrize(
    ("name", "content"), [("a.gguf", b""), ("a.gguf", b"GGUX"), ("a.txt", b"")]
)
def test_a_file_that_is_no_model_is_one_line(cli, tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    outcome = cli("inspect", tmp_path / name)
    assert outcome.code == 1
    assert name in outcome.error


def test_a_file_that_is_not_there_is_one_line(cli, tmp_path):
    assert "no such model file" in cli("inspect", tmp_path / "none.gguf").error
    error = cli("inspect", "owner/name:..").error  # no quantization has such a name
    assert error.endswith("; for a model of the hub, give owner/name or owner/name:Q4_K_M")


def test_memory_of_runs_is_told_without_torch_and_without_devices(cli, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)  # importing it fails
    asked = ("--max-length", 100, "--batch-size", 3, "--quantization-encoding", "q8_0")
    memory = json.loads(cli("inspect", BUNDLED, *asked, "--json").out)["memory"]
    assert (memory["max_length"], memory["batch_size"]) == (100, 3)
    assert memory["encodings"].keys() == {"q8_0", "f32"}
    runs = {(run["target"], run["native_ops"]): run for run in memory["runs"]}
    assert runs.keys() == {
        *(("cpu", True), ("cpu", False), ("cuda", False), ("coreml", False), ("torch", False))
    }
    # Of 4.3 million weights, 5 layers with 4 heads of keys and values of 32.
    shapes = [tuple(tensor.shape) for tensor in gguf.GGUFReader(BUNDLED).tensors]
    matrices, vectors = (
        sum(map(math.prod, (shape for shape in shapes if len(shape) == dims))) for dims in (2, 1)
    )
    assert runs["cpu", True]["weights"] == matrices * 34 // 32 + vectors * 4
    assert runs["torch", False]["weights"] == (matrices + vectors) * 4
    room, kept = 112, 2 * 5 * 4 * 32  # kernels work on 16 tokens at a time
    assert runs["cpu", True]["kv"] == 3 * room * kept * 2  # float16 beside weights in blocks
    assert runs["cpu", False]["kv"] == 3 * room * kept * 4
    assert runs["cuda", False]["kv"] == 3 * room * kept * 2
    assert runs["coreml", False]["kv"] == 2 * 3 * 256 * kept * 2
    assert [target for (target, _), run in runs.items() if run["on_device"]] == ["cuda"]
    for run in runs.values():
        assert run["total"] == run["weights"] + run["kv"] + run["working"]
    table = memory_lines(memory)
    assert max(map(len, table)) <= 80
    assert [line.split()[0] for line in table[3:9]] == [
        *("cpu", "cpu", "cuda", "coreml", "torch", "The")
    ]


def test_why_nothing_is_known_of_the_memory_is_told(cli, write_model):
    out = cli("inspect", write_model()).out
    assert "not known: " in out[out.index("Memory of a run") :]


def test_lengths_beyond_the_context_are_refused(cli):
    outcome = cli("inspect", BUNDLED, "--max-length", 1 << 20)
    assert outcome.code == 2
    assert "--max-length is 1048576, but the model's context is 512 tokens" in outcome.error
