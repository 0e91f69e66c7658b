"""Folders as Meta gives them out, held to `transformers` with the same weights."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece
import torch
import transformers
from meta_folders import metas, parts_of, write

from pipelines.common.cache import Cache
from pipelines.common.chat.format import ChatFormat
from pipelines.common.chat.messages import Message
from pipelines.common.checkpoints.meta.folder import open_folder
from pipelines.common.checkpoints.opening import Opening
from pipelines.common.errors import ModelFileError
from pipelines.common.pipeline_check.subject import Told
from pipelines.common.registry.registry import Registry
from pipelines.common.text_generation import ModelOptions
from pipelines.testing import Subject

SCRIPT = Path(__file__).parents[2] / "run_pipeline.py"
SIZES = {"dim": 64, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "norm_eps": 1e-5}
SIZES |= {"vocab_size": 300, "multiple_of": 32, "ffn_dim_multiplier": 1.3}
ROPE = {"rope_theta": 500000.0}
SCALED = {**ROPE, "use_scaled_rope": True}


def twin(scaling: dict[str, Any] | None = None) -> transformers.LlamaForCausalLM:
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=300,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=8192,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", **ROPE, **(scaling or {})},
    )
    model = transformers.LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.2 + (parameter.ndim == 1))
    return model


@pytest.fixture(scope="module")
def model() -> transformers.LlamaForCausalLM:
    return twin()


@pytest.fixture
def folder(model: transformers.LlamaForCausalLM, tmp_path: Path) -> Path:
    return write(tmp_path / "Llama", [metas(model)], {**SIZES, **ROPE})


def logits(folder: Path, target: str) -> np.ndarray:
    tiny = Subject("llama3")
    tokenizer = folder / "tokenizer.json"
    tokenizer.write_bytes(tiny.open().tokenizer.vocabulary.files()["tokenizer.json"])
    options = ModelOptions(
        model_path=folder, tokenizer_path=tokenizer, encoding="float32", target=target
    )
    model = tiny.loaded.open(options, tiny.registry, Told())
    return model.start(slots=1, max_length=32).score(TOKENS)


TOKENS = [7, 250, 3, 99, 180, 31, 64, 2, 290]


@pytest.mark.parametrize("target", ["torch", "cpu"])
@pytest.mark.parametrize(("count", "rows"), [(1, True), (2, True), (2, False)])
def test_logits_are_those_of_transformers(
    model: transformers.LlamaForCausalLM, tmp_path: Path, count: int, rows: bool, target: str
) -> None:
    folder = write(tmp_path / "Llama", parts_of(metas(model), count, rows), {**SIZES, **ROPE})
    with torch.no_grad():
        expected = model(torch.tensor([TOKENS])).logits[0].numpy()
    np.testing.assert_allclose(logits(folder, target), expected, atol=1e-4 * abs(expected).max())


def test_scaled_frequencies(tmp_path: Path) -> None:
    scaling = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0}
    scaling |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
    model = twin(scaling)
    folder = write(tmp_path / "Llama", [metas(model)], {**SIZES, **SCALED})
    with torch.no_grad():
        expected = model(torch.tensor([TOKENS])).logits[0].numpy()
    np.testing.assert_allclose(logits(folder, "cpu"), expected, atol=1e-4 * abs(expected).max())
    assert open_folder(folder).metadata["llama.context_length"] == 131072


@pytest.mark.parametrize("missing", [True, False])
def test_an_output_matrix_that_is_the_embedding(
    model: transformers.LlamaForCausalLM, tmp_path: Path, missing: bool
) -> None:
    """As in Llama 3.2, whose frequencies are scaled by another factor."""
    tensors = metas(model)
    tensors["output.weight"] = tensors["tok_embeddings.weight"].clone()
    if missing:
        del tensors["output.weight"]
    file = open_folder(write(tmp_path / "Llama", [tensors], {**SIZES, **SCALED}))
    assert "output.weight" not in file.tensors
    assert file.metadata["llama.rope.scaling.factor"] == 32.0


@pytest.mark.parametrize("weights", ["mmap", "heap"])
@pytest.mark.parametrize("count", [1, 2])
def test_tensors_and_rows_of_them(
    model: transformers.LlamaForCausalLM, tmp_path: Path, count: int, weights: str
) -> None:
    tensors = {name: tensor.to(torch.bfloat16) for name, tensor in metas(model).items()}
    folder = write(tmp_path / "Llama", parts_of(tensors, count, True), {**SIZES, **ROPE})
    file = open_folder(folder, Opening(weights))
    assert file.format == ("Meta's checkpoint" if count == 1 else "Meta's checkpoint, 2 files")
    for ours, theirs in {
        "token_embd": "tok_embeddings",
        "blk.1.ffn_down": f"layers.1.{W2}",
    }.items():
        name, expected = f"{ours}.weight", tensors[f"{theirs}.weight"].view(torch.uint8).numpy()
        assert str(file.tensors[name].encoding) == "bf16"
        np.testing.assert_array_equal(file.raw(name), expected)
        for rows in ((0, 7), (20, 60), (63, 64)):
            np.testing.assert_array_equal(file.raw(name, rows), expected[slice(*rows)])
        assert not file.raw(name).flags.writeable


W2 = "feed_forward.w2"


def test_every_file_counts_in_the_fingerprint(folder: Path, tmp_path: Path) -> None:
    digests = Cache(tmp_path / "cache").digests
    before = open_folder(folder).fingerprint(digests)
    assert open_folder(folder / "consolidated.00.pth").fingerprint(digests) == before
    (folder / "tokenizer.model").write_bytes(b"another")
    assert open_folder(folder).fingerprint(digests) != before


class Code:
    """What runs code when it is read."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return exec, ("import pathlib; pathlib.Path('ran').touch()",)


def with_code(folder: Path) -> None:
    torch.save({"a": Code()}, folder / "consolidated.00.pth")


def with_code_alone(folder: Path) -> None:
    (folder / "consolidated.00.pth").write_bytes(pickle.dumps(Code()))


def cut_short(folder: Path) -> None:
    path = folder / "consolidated.00.pth"
    path.write_bytes(path.read_bytes()[:5000])


def something_else(folder: Path) -> None:
    (folder / "consolidated.00.pth").write_bytes(b"<html>")


def no_tensors(folder: Path) -> None:
    torch.save([1, 2], folder / "consolidated.00.pth")


def integers(folder: Path) -> None:
    torch.save({"norm.weight": torch.ones(4, dtype=torch.int8)}, folder / "consolidated.00.pth")


def no_tensor_among_them(folder: Path) -> None:
    torch.save({"norm.weight": "x"}, folder / "consolidated.00.pth")


def a_part_missing(folder: Path) -> None:
    path = folder / "consolidated.00.pth"
    path.rename(folder / "consolidated.01.pth")


def parts_of_two_models(folder: Path) -> None:
    torch.save({"norm.weight": torch.ones(64)}, folder / "consolidated.01.pth")


def says(**params: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / "params.json").write_text(json.dumps({**SIZES, **ROPE, **params}))

    return change


def no_json(folder: Path) -> None:
    (folder / "params.json").write_text("{")


def no_params(folder: Path) -> None:
    (folder / "params.json").unlink()


WRONG: dict[Callable[[Path], None], str] = {
    with_code: "has more in it than tensors, which could be code",
    with_code_alone: "is no file that PyTorch has written since its version 1.6",
    cut_short: "is no file that PyTorch has written",
    something_else: "is no file that PyTorch has written",
    no_tensors: "holds a list, expected tensors by name",
    integers: "tensor 'norm.weight' is torch.int8",
    no_tensor_among_them: "'norm.weight' is no tensor",
    a_part_missing: "expected consolidated.00.pth and the others .*: consolidated.01.pth",
    parts_of_two_models: "the files do not have parts of one model: tensor",
    no_json: "params.json: is not JSON",
    no_params: "has no params.json beside it",
    says(dim=None): "dim is missing, expected a number",
    says(n_heads="4"): 'n_heads is "4", expected a number',
    says(n_layers=10**9): "n_layers is 1000000000, but there are only",
    says(moe_args={}): "has moe_args, which may change results and cannot be applied",
}


@pytest.mark.parametrize("change", WRONG)
def test_what_is_wrong_is_one_line(
    folder: Path, change: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    change(folder)
    with pytest.raises(ModelFileError, match=WRONG[change]) as raised:
        open_folder(folder)
    assert "\n" not in str(raised.value)
    assert not Path("ran").exists()


def test_without_pytorch(folder: Path) -> None:
    program = (
        "import sys; sys.modules['torch'] = None\n"
        "from pipelines.common.checkpoints.meta.folder import open_folder\n"
        "from pathlib import Path\n"
        "try: open_folder(Path(sys.argv[1]))\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    told = subprocess.run(
        [sys.executable, "-c", program, folder], capture_output=True, text=True, check=True
    ).stdout
    assert "is read by PyTorch, which is not installed; install torch" in told


@pytest.fixture
def llama2(model: transformers.LlamaForCausalLM, tmp_path: Path) -> Path:
    """As Llama 2 was given out: parts of columns of the embedding, pieces of SentencePiece."""
    folder = write(tmp_path / "Llama-2", parts_of(metas(model), 2, False), {**SIZES, **ROPE})
    trained = {"model_type": "bpe", "vocab_size": 280, "byte_fallback": True, "minloglevel": 2}
    trained |= {"normalization_rule_name": "identity", "remove_extra_whitespaces": False}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["the cat sat on the mat", "a cat and a hat"]),
        model_prefix=str(folder / "tokenizer"),
        hard_vocab_limit=False,
        **trained,
    )
    return folder


def opened(path: Path) -> Any:
    options = ModelOptions(model_path=path, encoding="float32", target="cpu", registered_ops=False)
    registry = Registry.discover()
    return registry.load_pipeline("llama2").open(options, registry, Told())


def test_a_llama_2_becomes_one_file(
    model: transformers.LlamaForCausalLM, llama2: Path, tmp_path: Path
) -> None:
    """Its SentencePiece vocabulary as well, and its rows stay: Meta has those of GGUF."""
    judge = sentencepiece.SentencePieceProcessor(str(llama2 / "tokenizer.model"))
    out = tmp_path / "llama-2.gguf"
    command = [sys.executable, SCRIPT, "convert", llama2, out]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with torch.no_grad():
        expected = model(torch.tensor([TOKENS])).logits[0].numpy()
    for path in (llama2, out):
        found = opened(path)
        scores = found.start(slots=1, max_length=32).score(TOKENS)
        np.testing.assert_allclose(scores, expected, atol=1e-4 * abs(expected).max())
        for text in ("the hat on a mat", "  zwölf\n\u4e16", "<s> no control"):
            ids = found.tokenizer.encode(text, special=False)
            assert ids == [judge.bos_id(), *judge.encode(text)]
        assert found.tokenizer.end_ids == {judge.eos_id()}


def test_llama_2_has_its_chat_format(
    llama2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever lies where the program runs; a control token that is typed is text."""
    (tmp_path / "llama2").mkdir()
    monkeypatch.chdir(tmp_path)
    judge = sentencepiece.SentencePieceProcessor(str(llama2 / "tokenizer.model"))
    model = opened(llama2)
    said = [("system", "Be kind."), ("user", "the cat"), ("assistant", "sat"), ("user", "</s>")]
    messages = [Message(role, content) for role, content in said]
    chat = ChatFormat.of(model.chat, model.tokenizer)
    first = "[INST] <<SYS>>\nBe kind.\n<</SYS>>\n\nthe cat [/INST]"
    assert chat.rendered(messages) == f"<s>{first} sat </s><s>[INST] </s> [/INST]"
    bos, eos = judge.bos_id(), judge.eos_id()
    tokens = chat.tokens(messages)
    assert [token for token in tokens if token in (bos, eos)] == [bos, eos, bos]
    assert model.tokenizer.decode(tokens).replace(" ", "") == (
        f"{first}sat[INST]</s>[/INST]".replace(" ", "")
    )
