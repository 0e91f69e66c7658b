"""`inspect` on files written by the gguf package."""

from __future__ import annotations

import json
import struct

import gguf
import numpy as np
import pytest

from pipelines.common.text.byte_alphabet import byte_alphabet


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
