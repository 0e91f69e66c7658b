"""Folders of gpt-oss with experts in MXFP4, held to what `transformers` makes of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
import transformers
from families import FAMILIES
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from pipelines.common.cache import Cache
from pipelines.common.checkpoints.checkpoint import Checkpoint
from pipelines.common.checkpoints.opening import Strategy
from pipelines.common.conversion.metadata import metadata_of_file
from pipelines.common.conversion.wanted import Wanted
from pipelines.common.conversion.write import write
from pipelines.common.errors import ModelFileError
from pipelines.common.pipeline_check.compare import near
from pipelines.common.pipeline_check.subject import Told
from pipelines.common.registry.registry import Registry
from pipelines.testing import Subject
from pipelines.testing.twin import load_twin

GPT_OSS = next(each for each in FAMILIES if each.pipeline == "gptoss")
REGISTRY = Registry.discover()
EXPERTS = "model.layers.{}.mlp.experts."
STATED = {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn"]}
PUBLISHED = {"experts_per_token": 2, "initial_context_length": 4096}


@pytest.fixture(scope="module")
def twin() -> PreTrainedModel:
    made = GPT_OSS.twin()
    load_twin(GPT_OSS.subject, made, join=GPT_OSS.join)
    return made


@pytest.fixture(scope="module")
def saved(twin: PreTrainedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As models are published: experts in MXFP4, in rows, and all else in bfloat16."""
    folder = tmp_path_factory.mktemp("gpt-oss")
    twin.to(torch.bfloat16).save_pretrained(folder)
    tensors = load_file(folder / "model.safetensors")
    generator = np.random.default_rng(5)
    for layer in range(2):
        for name in ("gate_up_proj", "down_proj"):
            stem = EXPERTS.format(layer) + name
            experts, inputs, outputs = tensors.pop(stem).shape
            scales = (experts, outputs, inputs // 32)
            made = generator.integers(0, 256, (*scales, 16), np.uint8)
            tensors[f"{stem}_blocks"] = torch.tensor(made)
            made = generator.integers(120, 124, scales, np.uint8)
            tensors[f"{stem}_scales"] = torch.tensor(made)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    change_config(folder, quantization_config=STATED, **PUBLISHED)
    for name, content in GPT_OSS.subject.open().tokenizer.vocabulary.files().items():
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture(scope="module")
def judge(saved: Path) -> PreTrainedModel:
    """What `transformers` reads of the same folder; without a GPU it decodes experts."""
    model = transformers.AutoModelForCausalLM.from_pretrained(saved, dtype=torch.float32)
    return model.eval()


def change_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_bytes()), **changes}))


def logits_of(model: PreTrainedModel, tokens: list[int]) -> np.ndarray:
    with torch.no_grad():
        made: np.ndarray = model(torch.tensor([tokens])).logits[0].numpy()
    return made


def opened(folder: Path, weights: Strategy = "mmap") -> Checkpoint:
    return REGISTRY.opener(folder, weights)(folder)


def values_of(file: Checkpoint, name: str, rows: tuple[int, int] | None = None) -> np.ndarray:
    """As the `gguf` package reads the blocks."""
    assert file.tensors[name].encoding.name == "mxfp4"
    return gguf.dequantize(file.raw(name, rows), gguf.GGMLQuantizationType.MXFP4)


@pytest.mark.parametrize("weights", ["mmap", "heap"])
def test_experts_are_what_transformers_decodes(
    saved: Path, judge: PreTrainedModel, weights: Strategy
) -> None:
    file, state = opened(saved, weights), judge.state_dict()
    for layer in range(2):
        both, down = (state[EXPERTS.format(layer) + f"{n}_proj"] for n in ("gate_up", "down"))
        theirs = {"gate": both[:, :, 0::2], "up": both[:, :, 1::2], "down": down}
        for name, turned in theirs.items():
            tensor = f"blk.{layer}.ffn_{name}_exps.weight"
            expected = turned.transpose(1, 2).numpy()
            assert file.tensors[tensor].shape == expected.shape
            rows = expected.reshape(-1, expected.shape[-1])
            np.testing.assert_array_equal(values_of(file, tensor), rows)
            np.testing.assert_array_equal(values_of(file, tensor, (40, 131)), rows[40:131])
            assert not file.raw(tensor).flags.writeable


@pytest.mark.parametrize("encoding", ["float32", "auto"])
def test_logits_are_those_of_transformers(
    saved: Path, judge: PreTrainedModel, encoding: str
) -> None:
    subject, told = Subject("gptoss", path=saved), Told()
    expected = logits_of(judge, subject.tokens)
    near(subject.reference, expected, 1e-4)
    model = subject.open("cpu", encoding, native_ops=True, progress=told)
    runner = model.start(slots=1, max_length=subject.room)
    near(runner.score(subject.tokens), expected, 1e-4 if encoding == "float32" else 0.03)
    assert [each for each in told.messages if not each.startswith("quantization encoding")] == []


def test_a_folder_written_as_gguf_is_the_same_model(
    saved: Path, judge: PreTrainedModel, tmp_path: Path
) -> None:
    """Its codes as well, which nothing is lost of."""
    folder, out, told = Subject("gptoss", path=saved), tmp_path / "m.gguf", Told()
    file, wanted, cache = folder.checkpoint, Wanted(), Cache(tmp_path / "cache")
    metadata = metadata_of_file(file, wanted, cache, told.notice, folder.registry.tokenizer)
    write(file, out, metadata, wanted, told)
    subject = Subject("gptoss", path=out)
    for name, info in subject.checkpoint.tensors.items():
        if name.endswith("exps.weight"):
            assert info.encoding.name == "mxfp4"
            np.testing.assert_array_equal(subject.checkpoint.raw(name), file.raw(name))
    near(subject.reference, logits_of(judge, subject.tokens), 1e-4)
    fields = gguf.GGUFReader(out).fields
    assert fields["gpt-oss.expert_feed_forward_length"].contents() == 96
    assert told.messages == []


def test_floats_of_half_the_width_in_several_files(twin: PreTrainedModel, tmp_path: Path) -> None:
    """As `transformers` writes the experts where it has decoded them."""
    twin.to(torch.bfloat16).save_pretrained(tmp_path, max_shard_size="100KB")
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    for name, content in GPT_OSS.subject.open().tokenizer.vocabulary.files().items():
        (tmp_path / name).write_bytes(content)
    subject = Subject("gptoss", path=tmp_path)
    assert "files" in subject.checkpoint.format
    near(subject.reference, logits_of(model, subject.tokens), 1e-4)


STEM = EXPERTS.format(1) + "gate_up_proj"
Change = Callable[[dict[str, torch.Tensor]], Any]


def to(name: str, made: Callable[[torch.Tensor], torch.Tensor]) -> Change:
    return lambda tensors: tensors.update({name: made(tensors[name]).contiguous()})


WRONG: dict[str, tuple[Change, str]] = {
    "no scales": (
        lambda tensors: tensors.pop(f"{STEM}_scales"),
        f"has tensor '{STEM}_blocks' without '{STEM}_scales'; MXFP4 takes both",
    ),
    "no blocks": (
        lambda tensors: tensors.pop(f"{STEM}_blocks"),
        f"has tensor '{STEM}_scales' without '{STEM}_blocks'; MXFP4 takes both",
    ),
    "blocks of another size": (
        to(f"{STEM}_blocks", lambda tensor: tensor[..., :8]),
        f"'{STEM}_blocks' is u8 [6, 192, 2, 8], expected bytes [experts, outputs, blocks, 16]",
    ),
    "blocks of floats": (
        to(f"{STEM}_blocks", lambda tensor: tensor.float()),
        f"'{STEM}_blocks' is f32 [6, 192, 2, 16], expected bytes [",
    ),
    "an odd number of rows": (
        to(f"{STEM}_blocks", lambda tensor: tensor[:, :191]),
        "expected bytes [experts, outputs, blocks, 16] with outputs a multiple of 2",
    ),
    "scales of other blocks": (
        to(f"{STEM}_scales", lambda tensor: tensor[:, :, :1]),
        f"'{STEM}_scales' is u8 [6, 192, 1], expected bytes [6, 192, 2] for the blocks of",
    ),
    "a bias too flat": (
        to(f"{STEM}_bias", lambda tensor: tensor[0]),
        f"'{STEM}_bias' is bf16 [192], expected floats [experts, outputs]",
    ),
    "a matrix of bytes": (
        lambda tensors: tensors.update({STEM: torch.ones(6, 64, 192, dtype=torch.uint8)}),
        f"'{STEM}' is u8 [6, 64, 192], expected floats [experts, inputs, outputs] with",
    ),
    "twice": (
        lambda tensors: tensors.update({STEM: torch.ones(6, 64, 192)}),
        "two tensors are blk.1.ffn_gate_exps.weight",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_one_line(saved: Path, tmp_path: Path, name: str) -> None:
    change, message = WRONG[name]
    tensors = load_file(saved / "model.safetensors")
    change(tensors)
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    (tmp_path / "config.json").write_bytes((saved / "config.json").read_bytes())
    with pytest.raises(ModelFileError) as raised:
        opened(tmp_path)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)
    assert str(tmp_path) in str(raised.value)


YARN = {"rope_type": "yarn", "factor": 32.0, "original_max_position_embeddings": 4096}


def test_what_is_not_said_is_what_transformers_takes(
    saved: Path, judge: PreTrainedModel, tmp_path: Path
) -> None:
    for file in saved.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    change_config(tmp_path, layer_types=None, rope_parameters=None)
    subject = Subject("gptoss", path=tmp_path)
    near(subject.reference, logits_of(judge, subject.tokens), 1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"quantization_config": {"quant_method": "awq"}}, "is quantized by 'awq', which cannot"),
        ({"swiglu_limit": 5.0}, "swiglu_limit is 5.0, which changes results .* expected 7.0"),
        ({"layer_types": ["sliding_attention"]}, "layer_types is not local and global in turns"),
        ({"layer_types": ["full_attention"] * 2}, "layer_types is not local and global in turns"),
        ({"rope_parameters": YARN}, "rope_parameters of the type yarn do not say that truncate"),
        ({"experts_per_token": 3}, "experts_per_token is 3, and num_experts_per_tok 2"),
    ],
)
def test_configs_that_cannot_be_applied(
    saved: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((saved / name).read_bytes())
    change_config(tmp_path, **changes)
    with pytest.raises(ModelFileError, match=message) as raised:
        opened(tmp_path)
    assert "\n" not in str(raised.value)
