"""Models of every format written as GGUF files, judged by the `gguf` package and `transformers`."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
import transformers
from gguf import GGMLQuantizationType as Type
from tiny_models import CONTEXT, llama, logits, open_model, random_tokens, write_gguf

from pipelines.common.conversion import write
from pipelines.common.conversion.wanted import REQUESTS
from pipelines.testing import Subject

TOKENS = random_tokens(24)
TEMPLATE = "{{ messages[0].content }}{{ eos_token }}"
LARGE = ("token_embd.weight", "output.weight")


@pytest.fixture(scope="module")
def model() -> transformers.LlamaForCausalLM:
    return llama()


@pytest.fixture(scope="module")
def stored(model, tmp_path_factory) -> Path:
    """A file in float32."""
    return write_gguf(tmp_path_factory.mktemp("stored") / "model.gguf", model)


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory) -> Path:
    """The same model as Hugging Face's hub has it."""
    path = tmp_path_factory.mktemp("hub")
    model.save_pretrained(path)
    config = path / "config.json"
    config.write_text(config.read_text().replace("500000.0", "500000"))
    files = Subject("llama3").open().tokenizer.vocabulary.files()
    (path / "tokenizer.json").write_bytes(files["tokenizer.json"])
    settings = {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"}
    settings["chat_template"] = TEMPLATE
    (path / "tokenizer_config.json").write_text(json.dumps(settings))
    suggested = {"do_sample": True, "top_k": 20, "repetition_penalty": 1.25}
    (path / "generation_config.json").write_text(json.dumps(suggested))
    return path


def read(path: Path) -> dict[str, gguf.ReaderTensor]:
    return {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}


def of_driver(path: Path, encoding: str = "float32") -> np.ndarray:
    return open_model(path, encoding=encoding).start(slots=1, max_length=CONTEXT).score(TOKENS)


@pytest.mark.parametrize("name", REQUESTS)
def test_blocks_are_those_of_the_gguf_package(cli, stored, tmp_path, name):
    out = tmp_path / "out.gguf"
    outcome = cli("quantize", stored, out, "--encoding", name)
    assert outcome.code == 0
    kind = Type[name.upper()]
    large = kind if name in ("f16", "bf16") else Type.Q8_0
    before, after = read(stored), read(out)
    assert [*after] == [*before]
    for tensor, found in after.items():
        values = before[tensor].data
        wanted = Type.F32 if values.ndim == 1 else large if tensor in LARGE else kind
        assert found.tensor_type == wanted, tensor
        expected = values if wanted == Type.F32 else gguf.quantize(values, wanted)
        np.testing.assert_array_equal(found.data.view(np.uint8), expected.view(np.uint8))
    said = f"14 matrices in {name}"
    assert said in outcome.err
    assert ("token_embd.weight in q8_0" in outcome.err) == (large != kind)
    file_type = gguf.GGUFReader(out).get_field("general.file_type").contents()
    assert gguf.LlamaFileType(file_type).name == f"MOSTLY_{name.upper()}"


@pytest.mark.parametrize("encoding", ["q4_0", "q8_0"])
def test_a_file_runs_as_the_driver_converts_it_itself(cli, stored, tmp_path, encoding):
    out = tmp_path / "out.gguf"
    assert cli("quantize", stored, out, "--encoding", encoding).code == 0
    np.testing.assert_array_equal(of_driver(out, "auto"), of_driver(stored, encoding))


def test_output_matrices_are_what_is_asked_for_and_fewer_bits_are_kept(cli, model, tmp_path):
    path = write_gguf(
        tmp_path / "mixed.gguf", model, Type.F16, exceptions={"blk.0.ffn_up.weight": Type.Q4_0}
    )
    args = ("--encoding", "q5_1", "--output-encoding", "f16")
    outcome = cli("quantize", path, tmp_path / "out.gguf", *args)
    assert outcome.err.rstrip().endswith(
        ": 13 matrices in q5_1, 1 matrix kept in q4_0, which has no more bits, token_embd.weight"
        " in f16, output.weight in f16, since an error there is one in every token"
    )
    before, after = read(path), read(tmp_path / "out.gguf")
    assert {after[name].tensor_type for name in LARGE} == {Type.F16}
    assert after["blk.0.ffn_down.weight"].tensor_type == Type.Q5_1
    kept = "blk.0.ffn_up.weight"
    np.testing.assert_array_equal(after[kept].data, before[kept].data)


def test_blocks_made_of_blocks_are_told(cli, model, tmp_path):
    path, args = write_gguf(tmp_path / "q8_0.gguf", model, Type.Q8_0), ("--encoding", "q4_0")
    outcome = cli("quantize", path, tmp_path / "out.gguf", *args)
    assert "already (14 in q8_0), so what is written has the errors of both" in outcome.err
    outcome = cli("quantize", path, tmp_path / "quiet.gguf", *args, "--quiet")
    assert (outcome.code, outcome.err) == (0, "")


def test_check_tells_errors_and_sizes(cli, stored, tmp_path):
    outcome = cli("quantize", stored, tmp_path / "out.gguf", "--encoding", "q4_1", "--check")
    (line,) = [each for each in outcome.out.splitlines() if each.startswith("blk.1.ffn_up.w")]
    values = read(stored)["blk.1.ffn_up.weight"].data
    off = gguf.dequantize(gguf.quantize(values, Type.Q4_1), Type.Q4_1) - values
    _, before, after, *size, relative, largest = line.split()
    assert (before, after, size) == ("f32", "q4_1", ["80.0", "KiB"])
    assert float(relative) == pytest.approx(np.sqrt((off**2).mean() / (values**2).mean()), 1e-3)
    assert float(largest) == pytest.approx(abs(off).max(), abs=1e-6)


def test_a_folder_of_the_hub(cli, model, folder, tmp_path):
    """Its rows of queries and keys move, its tokenizer becomes keys, its template is kept."""
    out = tmp_path / "out.gguf"
    assert cli("convert", folder, out).code == 0
    expected = logits(model, TOKENS)
    np.testing.assert_allclose(of_driver(out), expected, atol=1e-4 * abs(expected).max())
    judge = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file=out.name)
    torch.testing.assert_close(judge.state_dict(), model.state_dict())
    ours, theirs = open_model(out).tokenizer, open_model(folder).tokenizer
    assert (ours.bos_id, ours.adds_bos, ours.end_ids) == (
        theirs.bos_id,
        theirs.adds_bos,
        theirs.end_ids,
    )
    for text in ("The THE thé 1234 x1 don't\n\n  end", "<|eot_id|>a<|begin_of_text|> b"):
        assert ours.encode(text) == theirs.encode(text)
    rows = read(out)["token_embd.weight"].data.shape[0]
    fields = gguf.GGUFReader(out).fields
    keys = {key: field.contents() for key, field in fields.items()}
    assert fields["llama.rope.freq_base"].types == [gguf.GGUFValueType.FLOAT32]
    assert fields["tokenizer.ggml.token_type"].types[1] == gguf.GGUFValueType.INT32
    assert len(keys["tokenizer.ggml.tokens"]) == rows > theirs.vocab_size
    assert keys["tokenizer.chat_template"] == TEMPLATE
    suggested = {"temp": 1.0, "top_k": 20, "penalty_repeat": 1.25}
    assert {name: keys[f"general.sampling.{name}"] for name in suggested} == suggested
    assert theirs.token_bytes(keys["tokenizer.ggml.eos_token_id"], special=True) == b"<|eot_id|>"


def test_parts_become_one_file(cli, tmp_path):
    folder = tmp_path / "parts"
    folder.mkdir()
    writer = gguf.GGUFWriter(folder / "m.gguf", "llama", split_max_tensors=2)
    writer.add_uint32("llama.block_count", 5)
    tensors = {f"blk.{n}.w.weight": np.full((2, 32), n, np.float16) for n in range(5)}
    for name, values in tensors.items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    out = tmp_path / "whole.gguf"
    assert cli("convert", folder / "m-00002-of-00003.gguf", out).code == 0
    found = read(out)
    for name, values in tensors.items():
        np.testing.assert_array_equal(found[name].data, values)
    assert not [key for key in gguf.GGUFReader(out).fields if key.startswith("split.")]


def narrow(folder: Path) -> Path:
    writer = gguf.GGUFWriter(folder / "narrow.gguf", "llama")
    writer.add_uint32("llama.block_count", 1)
    writer.add_tensor("blk.0.ffn_up.weight", np.ones((4, 48), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return folder / "narrow.gguf"


@pytest.mark.parametrize(
    ("out", "encoding", "code", "said"),
    [
        ("narrow.gguf", "q8_0", 1, "narrow.gguf: is the model that is read"),
        ("there.gguf", "q8_0", 1, "there.gguf: is there already; name another file"),
        ("no/such/out.gguf", "q8_0", 1, "there is no folder"),
        ("out.gguf", "q8_0", 1, "rows of 48 elements, which q8_0's blocks of 32 do not divide"),
        ("out.gguf", "q4_k", 2, "--encoding q4_k: nothing writes it; expected q4_0, "),
        ("out.gguf", "q9", 2, "--encoding q9: there is none of that name; expected q4_0, "),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(cli, tmp_path, out, encoding, code, said):
    path = narrow(tmp_path)
    (tmp_path / "there.gguf").touch()
    before = {each: each.read_bytes() for each in tmp_path.glob("*.gguf")}
    outcome = cli("quantize", path, tmp_path / out, "--encoding", encoding)
    assert outcome.code == code
    assert said in outcome.error
    assert {each: each.read_bytes() for each in tmp_path.rglob("*.gguf")} == before


def test_values_that_do_not_fit_are_refused(cli, tmp_path):
    path = tmp_path / "large.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_uint32("llama.block_count", 1)
    writer.add_tensor("blk.0.ffn_up.weight", np.full((4, 64), 1e8, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    for encoding in ("f16", "q8_0"):
        outcome = cli("quantize", path, tmp_path / "out.gguf", "--encoding", encoding)
        assert f"too large for {encoding}" in outcome.err
    assert cli("quantize", path, tmp_path / "out.gguf", "--encoding", "bf16").code == 0


def left_in(folder: Path) -> list[str]:
    return [each.name for each in folder.iterdir()]


def test_a_full_disk_is_one_line(cli, stored, tmp_path, monkeypatch):
    out = tmp_path / "out.gguf"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        outcome = cli("convert", stored, out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert f"cannot write {out}: {os.strerror(errno.EFBIG)}; make room there" in outcome.error
    assert left_in(tmp_path) == []
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1 << 20))
    outcome = cli("convert", stored, out)
    assert f"cannot write {out}: {os.strerror(errno.ENOSPC)} for its 5 MiB" in outcome.error
    assert left_in(tmp_path) == []


def test_interrupted_it_leaves_nothing(cli, stored, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(write, "convert_rows", interrupted)
    outcome = cli("quantize", stored, tmp_path / "out.gguf", "--encoding", "q8_0")
    assert outcome.code == 130
    assert left_in(tmp_path) == []
