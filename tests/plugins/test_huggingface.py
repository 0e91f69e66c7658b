"""Folders that `transformers` has written, held to what it computes itself."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from families import FAMILIES, Family
from numpy.typing import NDArray
from transformers import PreTrainedModel

from pipelines.common.cache import Cache
from pipelines.common.conversion.metadata import metadata_of_file
from pipelines.common.conversion.wanted import Wanted
from pipelines.common.conversion.write import write
from pipelines.common.encodings.convert import dequantize
from pipelines.common.pipeline_check.backends import Backend
from pipelines.common.pipeline_check.compare import near
from pipelines.common.pipeline_check.subject import Told
from pipelines.common.registry.registry import Registry
from pipelines.common.text_generation import ModelOptions
from pipelines.testing import Subject
from pipelines.testing.twin import load_twin

PIPELINES = Registry.discover().pipelines
TRANSLATED = [each for each in FAMILIES if PIPELINES[each.pipeline].record.translations]
SCRIPT = Path(__file__).parents[2] / "run_pipeline.py"


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Family], Path]:
    """Writes a family's twin, once."""
    written: dict[int, Path] = {}

    def write(family: Family) -> Path:
        if id(family) not in written:
            folder = tmp_path_factory.mktemp(family.pipeline)
            written[id(family)] = save(family, folder)
        return written[id(family)]

    return write


def save(family: Family, folder: Path, **options: Any) -> Path:
    """A family's twin with the family's random weights, and the tokenizer of these."""
    twin = twin_of(family)
    twin.save_pretrained(folder, **options)
    write_tokenizer(family, folder)
    return folder


def write_tokenizer(family: Family, folder: Path) -> None:
    for name, content in family.subject.open().tokenizer.vocabulary.files().items():
        (folder / name).write_bytes(content)


def twin_of(family: Family) -> PreTrainedModel:
    twin = family.twin()
    load_twin(family.subject, twin, values=family.as_twin_has, join=family.join)
    return twin


def logits_of(twin: PreTrainedModel, tokens: list[int]) -> NDArray[np.float32]:
    with torch.no_grad():
        made: NDArray[np.float32] = twin(torch.tensor([tokens])).logits[0].float().numpy()
    return made


@pytest.mark.parametrize("family", TRANSLATED, ids=lambda family: family.judge.__name__)
def test_logits_are_those_of_transformers(
    family: Family, folder_of: Callable[[Family], Path]
) -> None:
    subject = Subject(family.pipeline, path=folder_of(family))
    expected = logits_of(twin_of(family), subject.tokens)
    near(subject.reference, expected, 1e-4)
    told = Told()
    runner = subject.open("cpu", native_ops=True, progress=told).start(
        slots=1, max_length=subject.room
    )
    near(runner.score(subject.tokens), expected, 1e-4)
    assert told.messages == []  # all keys are known
    near(Backend("stock", "cpu").start(subject).score(subject.tokens), expected, 1e-4)


@pytest.mark.parametrize("family", TRANSLATED, ids=lambda family: family.judge.__name__)
def test_tensors_are_those_of_a_gguf_file_but_for_the_order_of_rows(
    family: Family, folder_of: Callable[[Family], Path]
) -> None:
    ours = Subject(family.pipeline, path=folder_of(family)).checkpoint
    gguf = family.subject.checkpoint
    assert ours.tensors.keys() == gguf.tensors.keys()
    for name, info in gguf.tensors.items():
        raw = ours.raw(name)
        assert ours.tensors[name].shape == info.shape
        assert raw.nbytes == ours.tensors[name].nbytes
        values, expected = dequantize(ours.tensors[name].encoding, raw), gguf.raw(name)
        if not name.endswith(("attn_q.weight", "attn_k.weight", "attn_q.bias", "attn_k.bias")):
            np.testing.assert_allclose(values, expected.view(np.float32), rtol=0, atol=1e-6)
        middle = info.rows // 2
        np.testing.assert_array_equal(ours.raw(name, (middle, info.rows)), raw[middle:])


@pytest.mark.parametrize("family", TRANSLATED, ids=lambda family: family.judge.__name__)
def test_a_folder_written_as_gguf_gives_the_same_logits(
    family: Family, folder_of: Callable[[Family], Path], tmp_path: Path
) -> None:
    folder, out, told = (
        Subject(family.pipeline, path=folder_of(family)),
        tmp_path / "m.gguf",
        Told(),
    )
    file, wanted, cache = folder.checkpoint, Wanted(), Cache(tmp_path / "cache")
    metadata = metadata_of_file(file, wanted, cache, told.notice, folder.registry.tokenizer)
    write(file, out, metadata, wanted, told)
    subject = Subject(family.pipeline, path=out)
    near(subject.reference, logits_of(twin_of(family), subject.tokens), 1e-4)
    assert told.messages == []
    ours, theirs = subject.open().tokenizer, folder.open().tokenizer
    assert ours.encode("the <tHe> 12") == theirs.encode("the <tHe> 12")


def family_of(pipeline: str, **numbers: Any) -> Family:
    """A dense family with other numbers in the config of its twin."""
    family = next(each for each in FAMILIES if each.pipeline == pipeline)
    return replace(family, numbers={**family.numbers, **numbers})


def without_nothing(name: str, half: int) -> list[float]:
    """Divisors of frequencies that are not all alike."""
    return [1.0 + 0.25 * n * (2 if name == "long" else 1) for n in range(half)]


ROPES: dict[str, tuple[str, dict[str, Any]]] = {
    "linear": ("qwen2", {"rope_type": "linear", "factor": 4.0}),
    "llama3": (
        "qwen2",
        {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32,
        },
    ),
    "yarn": (
        "qwen2",
        {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32},
    ),
    "yarn with numbers": (
        "qwen3",
        {
            "rope_type": "yarn",
            "factor": 4.0,
            "original_max_position_embeddings": 32,
            "beta_fast": 16.0,
            "beta_slow": 2.0,
            "attention_factor": 0.9,
        },
    ),
    "a part of each head": ("phi3", {"rope_type": "default", "partial_rotary_factor": 0.5}),
}


@pytest.mark.parametrize("name", ROPES)
def test_rotations_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    pipeline, rope = ROPES[name]
    family = family_of(pipeline, rope_parameters={"rope_theta": 1e4, **rope})
    twin = twin_of(family)
    twin.save_pretrained(tmp_path)
    write_tokenizer(family, tmp_path)
    subject = Subject(pipeline, path=tmp_path)
    near(subject.reference, logits_of(twin, subject.tokens), 1e-4)


def test_long_rope_is_that_of_transformers(tmp_path: Path) -> None:
    family = family_of("phi3")
    half = family.subject.open().config.head_dim // 2
    factors = {f"{name}_factor": without_nothing(name, half) for name in ("short", "long")}
    family = family_of(
        "phi3",
        rope_parameters={"rope_type": "longrope", "rope_theta": 1e4, **factors},
        original_max_position_embeddings=32,
    )
    twin = twin_of(family)
    twin.save_pretrained(tmp_path)
    write_tokenizer(family, tmp_path)
    subject = Subject("phi3", path=tmp_path)
    # Room to grow beyond the original context: the long factors count, for the twin as well.
    tokens = [*subject.tokens, *subject.tokens, *subject.tokens][:40]
    runner = subject.open("torch").start(slots=1, max_length=64)
    near(runner.score(tokens), logits_of(twin, tokens), 1e-4)


def test_configs_as_they_were_before(tmp_path: Path) -> None:
    """Rotary numbers at the top and in `rope_scaling`, keys with defaults left out."""
    family = family_of("qwen2", rope_parameters={"rope_type": "linear", "factor": 4, **THETA})
    folder = save(family, tmp_path)
    config = json.loads((folder / "config.json").read_bytes())
    del config["rope_parameters"], config["layer_types"], config["use_sliding_window"]
    config |= {"rope_scaling": {"type": "linear", "factor": 4}, **THETA, "sliding_window": 4}
    (folder / "config.json").write_text(json.dumps(config))
    subject = Subject("qwen2", path=folder)
    near(subject.reference, logits_of(twin_of(family), subject.tokens), 1e-4)


THETA = {"rope_theta": 12345.0}


def test_weights_in_bfloat16_and_in_several_files(tmp_path: Path) -> None:
    """As models are published; of gemma3, whose norms are `1 + w`."""
    family = next(each for each in FAMILIES if each.pipeline == "gemma3")
    twin_of(family).to(torch.bfloat16).save_pretrained(tmp_path, max_shard_size="100KB")
    assert len([*tmp_path.glob("model-*.safetensors")]) > 1
    write_tokenizer(family, tmp_path)
    subject = Subject("gemma3", path=tmp_path)
    twin = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    expected = logits_of(twin, subject.tokens)
    near(subject.reference, expected, 1e-4)
    runner = subject.open("cpu", "auto", native_ops=True).start(slots=1, max_length=subject.room)
    near(runner.score(subject.tokens), expected, 0.02)


@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.parametrize(
    "family",
    [
        Family("llama3", transformers.LlamaForCausalLM, transformers.LlamaConfig),
        Family("llama3", transformers.LlamaForCausalLM, transformers.LlamaConfig, {"tied": True}),
        Family(
            "llama3",
            transformers.MistralForCausalLM,
            transformers.MistralConfig,
            numbers={"sliding_window": None},
        ),
    ],
    ids=["llama", "tied", "mistral"],
)
def test_llamas(family: Family, sharded: bool, tmp_path: Path) -> None:
    save(family, tmp_path, **({"max_shard_size": "100KB"} if sharded else {}))
    assert (tmp_path / "model.safetensors.index.json").exists() is sharded
    subject, told = Subject("llama3", path=tmp_path), Told()
    runner = subject.open("cpu", progress=told).start(slots=1, max_length=subject.room)
    near(runner.score(subject.tokens), logits_of(twin_of(family), subject.tokens), 1e-4)
    assert told.messages == []


def test_the_text_of_a_model_that_sees(tmp_path: Path) -> None:
    """Gemma 3 with a vision tower: the part that reads text is run."""
    family = next(each for each in FAMILIES if each.pipeline == "gemma3")
    text = family.twin().config
    vision = transformers.SiglipVisionConfig(
        hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1,
        image_size=28, patch_size=14,
    )  # fmt: skip
    config = transformers.Gemma3Config(
        text_config=text, vision_config=vision, mm_tokens_per_image=4
    )
    model = transformers.Gemma3ForConditionalGeneration(config)
    source = twin_of(family)
    model.model.language_model.load_state_dict(source.model.state_dict())
    model.save_pretrained(tmp_path)
    write_tokenizer(family, tmp_path)
    subject = Subject("gemma3", path=tmp_path)
    near(subject.reference, logits_of(source, subject.tokens), 1e-4)


def test_an_encoder_is_that_of_transformers(tmp_path: Path) -> None:
    """MiniLM as sentence-transformers has it: a BERT, its pieces and its pooling."""
    torch.manual_seed(0)
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "cat", "sat", "##s", "mat", "!"]
    (tmp_path / "vocab.txt").write_text("\n".join(pieces))
    transformers.BertTokenizer(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path)
    config = transformers.BertConfig(
        vocab_size=len(pieces),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=96,
        max_position_embeddings=32,
    )
    model = transformers.BertModel(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.2 + ("LayerNorm.weight" in name))
    model.save_pretrained(tmp_path)
    (tmp_path / "1_Pooling").mkdir()
    stated = {"word_embedding_dimension": 64, "pooling_mode_cls_token": True}
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps(stated))
    registry = Registry.discover()
    told = Told()
    opened = registry.load_pipeline("minilm").open(
        ModelOptions(model_path=tmp_path, encoding="float32"), registry, told
    )
    assert opened.pooling == "cls"
    ids = opened.tokenizer.encode("the cats sat!")
    assert [pieces[id] for id in ids] == ["[CLS]", "the", "cat", "##s", "sat", "!", "[SEP]"]
    (vectors,) = opened.start().encode([ids])
    with torch.no_grad():
        expected = model(torch.tensor([ids])).last_hidden_state[0].numpy()
    np.testing.assert_allclose(vectors, expected, atol=1e-4)
    assert told.messages == []


def test_the_command_runs_a_folder(tmp_path: Path) -> None:
    """Greedy text is that of `transformers`, which reads the same folder."""
    family = next(each for each in FAMILIES if each.pipeline == "qwen2")
    folder = save(family, tmp_path / "model")
    prompt = "hello"
    command = [sys.executable, str(SCRIPT), "run", str(folder), "--prompt", prompt, "--quiet"]
    command += ["--max-new-tokens", "6", "--quantization-encoding", "float32"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    tokenizer = family.subject.open().tokenizer
    ids = tokenizer.encode(prompt)
    twin = transformers.AutoModelForCausalLM.from_pretrained(folder)
    made = twin.generate(
        torch.tensor([ids]), do_sample=False, max_new_tokens=6, eos_token_id=None, pad_token_id=0
    )[0].tolist()
    assert text.strip("\n") == tokenizer.decode(made[len(ids) :]).strip("\n")
