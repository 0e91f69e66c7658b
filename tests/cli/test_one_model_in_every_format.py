"""One model stored in every format, run by the program: the same text.

Weights have values that float16 and bfloat16 hold as well, so that forms of floats lose nothing;
blocks are held to a file of the values that the `gguf` package decodes them to.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gguf
import meta_folders
import pytest
import torch
import transformers
from gguf import GGMLQuantizationType as Type
from meta_folders import metas, parts_of
from tiny_models import llama, open_model, write_gguf

from pipelines.common.conversion import wanted
from pipelines.common.encodings import BLOCKS, ENCODINGS
from pipelines.common.text.byte_alphabet import byte_alphabet

SPECIAL = ("begin_of_text", "end_of_text")
WORDS = 256 + 1
VOCABULARY = WORDS + 256 + 1
"""The bytes, one merge, the control tokens of Meta's files, and a row that makes the count even."""

ON_GRID = 2**16
"""What values are whole parts of, so that the smallest are exact in float16 too."""

PROMPT, LENGTH = "the thé of 1989", 12
OPTIONS = (
    *("--quantization-encoding", "float32", "--max-new-tokens", LENGTH, "--ignore-eos"),
    *("--presence-penalty", 100),  # no token twice: a small random model says one thing for ever
    *("--json", "--logprobs", 0),
)


@pytest.fixture(scope="module")
def model() -> transformers.LlamaForCausalLM:
    model = llama(vocabulary=VOCABULARY)
    with torch.no_grad():
        model.lm_head.weight[WORDS:] /= 64  # a control token may end a text, or have another name
        for parameter in model.parameters():
            parameter.copy_((parameter.bfloat16().float() * ON_GRID).round() / ON_GRID)
    for name, parameter in model.named_parameters():
        for dtype in (torch.float16, torch.bfloat16):
            assert torch.equal(parameter.to(dtype).float(), parameter), name
    return model


@pytest.fixture(scope="module")
def plain(model: transformers.LlamaForCausalLM, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GGUF file of it in float32, which all others are held to."""
    return write_gguf(tmp_path_factory.mktemp("plain") / "model.gguf", model)


@pytest.fixture
def written(cli) -> Callable[[Path], tuple[list[int], str]]:
    """What the program makes of a model: the tokens, and the text that it prints."""

    def run(path: Path) -> tuple[list[int], str]:
        outcome = cli("run", path, "--prompt", PROMPT, *OPTIONS)
        assert outcome.code == 0, outcome.err
        record = json.loads(outcome.out)
        assert record["prompt_tokens"] == 1 + len(PROMPT.encode()) - PROMPT.count("th")
        ids = [token["id"] for token in record["logprobs"]]
        assert len(ids) == LENGTH
        return ids, record["text"]

    return run


def as_gguf(kind: Type) -> Callable[..., Path]:
    return lambda model, _, folder: write_gguf(folder / "model.gguf", model, kind)


def as_hub_has_it(dtype: torch.dtype, shards: int) -> Callable[..., Path]:
    """A folder of safetensors, and the tokenizer as JSON."""

    def write(model: transformers.LlamaForCausalLM, plain: Path, folder: Path) -> Path:
        kept = model.dtype
        model.to(dtype).save_pretrained(folder, max_shard_size="1MB" if shards > 1 else "1GB")
        model.to(kept)
        assert len([*folder.glob("*.safetensors")]) >= shards
        files = open_model(plain).tokenizer.vocabulary.files()
        (folder / "tokenizer.json").write_bytes(files["tokenizer.json"])
        names = ("bos_token", "eos_token")
        special = {key: f"<|{name}|>" for key, name in zip(names, SPECIAL, strict=True)}
        settings = {**special, "add_bos_token": True}
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
        return folder

    return write


def as_meta_has_it(shards: int) -> Callable[..., Path]:
    """A folder of pickles, and the tokenizer as ranks."""

    def write(model: transformers.LlamaForCausalLM, _: Path, folder: Path) -> Path:
        halves = {name: tensor.bfloat16() for name, tensor in metas(model).items()}
        config = model.config
        params = {
            "dim": config.hidden_size,
            "n_layers": config.num_hidden_layers,
            "n_heads": config.num_attention_heads,
            "n_kv_heads": config.num_key_value_heads,
            "norm_eps": config.rms_norm_eps,
            "rope_theta": config.rope_parameters["rope_theta"],
            "vocab_size": config.vocab_size,
        }
        meta_folders.write(folder, parts_of(halves, shards, rows=True), params)
        words = [*(bytes([byte]) for byte in byte_alphabet().values()), b"th"]
        ranks = [b"%s %d\n" % (base64.b64encode(word), n) for n, word in enumerate(words)]
        (folder / "tokenizer.model").write_bytes(b"".join(ranks))
        return folder

    return write


LOSSLESS: dict[str, Callable[..., Path]] = {
    "gguf f16": as_gguf(Type.F16),
    "gguf bf16": as_gguf(Type.BF16),
    **{
        f"hub {name}{', sharded' * (shards > 1)}": as_hub_has_it(getattr(torch, name), shards)
        for name in ("float32", "float16", "bfloat16")
        for shards in (1, 3)
    },
    "meta": as_meta_has_it(1),
    "meta, two files": as_meta_has_it(2),
}


@pytest.mark.parametrize("form", LOSSLESS)
def test_floats_of_any_format_give_the_same_text(written, model, plain, tmp_path, form):
    assert written(LOSSLESS[form](model, plain, tmp_path)) == written(plain)


CONVERSIONS: dict[str, tuple[str, Sequence[str]]] = {
    "hub bfloat16, sharded": ("convert", ()),
    "meta, two files": ("convert", ()),
    "gguf f16": ("quantize", ("--encoding", "bf16")),
    "gguf bf16": ("quantize", ("--encoding", "f16")),
}


@pytest.mark.parametrize("form", CONVERSIONS)
def test_what_is_written_without_loss_gives_the_same_text(
    cli, written, model, plain, tmp_path, form
):
    path, out = LOSSLESS[form](model, plain, tmp_path), tmp_path / "out.gguf"
    command, options = CONVERSIONS[form]
    assert cli(command, path, out, *options).code == 0
    assert written(out) == written(plain)


def decoded(path: Path) -> Path:
    """The same file with every tensor in float32, as the `gguf` package reads and writes it."""
    reader, out = gguf.GGUFReader(path), path.with_name("decoded.gguf")
    writer = gguf.GGUFWriter(out, "llama")
    for name, field in reader.fields.items():
        if name != "general.architecture" and not name.startswith("GGUF."):
            kind, *_, element = *field.types, None
            value: Any = field.contents()
            writer.add_key_value(name, value, kind, sub_type=element)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, gguf.dequantize(tensor.data, tensor.tensor_type))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return out


@pytest.mark.parametrize("name", BLOCKS)
def test_blocks_give_the_text_of_what_they_stand_for(written, model, tmp_path, name):
    path = write_gguf(tmp_path / "model.gguf", model, Type[name.upper()])
    assert written(path) == written(decoded(path))


@pytest.mark.parametrize("name", [name for name in wanted.REQUESTS if ENCODINGS[name].coded])
def test_blocks_that_are_written_give_the_text_of_what_they_stand_for(
    cli, written, plain, tmp_path, name
):
    out = tmp_path / "out.gguf"
    assert cli("quantize", plain, out, "--encoding", name).code == 0
    assert written(out) == written(decoded(out))
