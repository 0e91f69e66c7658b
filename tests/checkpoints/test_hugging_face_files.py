"""Folders of Hugging Face's hub: files that do not fit, and configs that cannot be applied."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from notices import Notices
from safetensors.numpy import load_file, save_file

from pipelines.common.cache import Cache
from pipelines.common.checkpoints.checkpoint import Checkpoint
from pipelines.common.decoder.keys import check_keys
from pipelines.common.decoder.mixture import MixtureConfig
from pipelines.common.decoder.read import decoder_config
from pipelines.common.errors import ModelFileError
from pipelines.common.registry.registry import Registry

REGISTRY = Registry.discover()

CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 16,
    "hidden_size": 8,
    "intermediate_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 32,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "hidden_act": "silu",
}
LAYER = {
    "input_layernorm": (8,),
    "post_attention_layernorm": (8,),
    "self_attn.q_proj": (8, 8),
    "self_attn.k_proj": (8, 8),
    "self_attn.v_proj": (8, 8),
    "self_attn.o_proj": (8, 8),
    "mlp.gate_proj": (12, 8),
    "mlp.up_proj": (12, 8),
    "mlp.down_proj": (8, 12),
}
SHAPES = {
    "model.embed_tokens.weight": (16, 8),
    "model.norm.weight": (8,),
    "lm_head.weight": (16, 8),
    **{f"model.layers.{n}.{name}.weight": s for n in range(2) for name, s in LAYER.items()},
}
TENSORS = {
    name: np.random.default_rng(n).random(shape).astype(np.float32)
    for n, (name, shape) in enumerate(SHAPES.items())
}
INDEX = "model.safetensors.index.json"


def write_json(path: Path, value: Any) -> None:
    path.write_text(value if isinstance(value, str) else json.dumps(value))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sound one."""
    folder = tmp_path / "Model-1B"
    folder.mkdir()
    write_json(folder / "config.json", CONFIG)
    save_file(TENSORS, folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.fixture
def sharded(folder: Path) -> Path:
    """A sound one in two files."""
    (folder / "model.safetensors").unlink()
    names = list(TENSORS)
    mapping = {}
    for number, part in enumerate((names[:9], names[9:]), 1):
        file = f"model-0000{number}-of-00002.safetensors"
        save_file({name: TENSORS[name] for name in part}, folder / file)
        mapping |= dict.fromkeys(part, file)
    write_json(folder / INDEX, {"metadata": {}, "weight_map": mapping})
    return folder


def opened(path: Path) -> Checkpoint:
    return REGISTRY.opener(path)(path)


def says(folder: Path, **changes: Any) -> Path:
    """The folder with another config; a key that is ... is left out."""
    config = {key: value for key, value in {**CONFIG, **changes}.items() if value is not ...}
    write_json(folder / "config.json", config)
    return folder


@pytest.mark.parametrize("named", ["", "config.json", "model.safetensors"])
def test_a_folder_may_be_named_by_its_files(
    folder: Path, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = opened(folder / named)
    assert file.path == folder
    assert file.format == "Hugging Face folder, safetensors"
    np.testing.assert_array_equal(
        file.raw("blk.1.ffn_up.weight").view(np.float32),
        TENSORS["model.layers.1.mlp.up_proj.weight"],
    )
    monkeypatch.chdir(folder)
    assert opened(Path(named)).path.name == "Model-1B"


@pytest.mark.parametrize("named", ["", INDEX, "model-00002-of-00002.safetensors"])
def test_files_of_an_index_are_one_model(sharded: Path, named: str) -> None:
    file = opened(sharded / named)
    assert len(file.tensors) == len(TENSORS)
    assert file.format == "Hugging Face folder, safetensors, 2 files"
    digests = Cache(sharded / "cache").digests
    before = file.fingerprint(digests)
    write_json(sharded / "generation_config.json", {"eos_token_id": 3})
    assert opened(sharded).fingerprint(digests) != before


def test_a_single_file_of_another_name(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "finetuned.safetensors")
    assert len(opened(folder / "finetuned.safetensors").tensors) == len(TENSORS)


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_half_as_wide_numbers_stay_in_the_file(folder: Path, kind: str) -> None:
    dtype = np.dtype(np.float16 if kind == "float16" else ml_dtypes.bfloat16)
    save_file({n: t.astype(dtype) for n, t in TENSORS.items()}, folder / "model.safetensors")
    file = opened(folder)
    raw = file.raw("token_embd.weight")
    assert str(file.tensors["token_embd.weight"].encoding) == kind.replace("loat", "")
    assert raw.tobytes() == TENSORS["model.embed_tokens.weight"].astype(dtype).tobytes()
    assert np.shares_memory(raw, file.raw("token_embd.weight"))
    assert not raw.flags.writeable
    assert str(file.tensors["token_embd.weight"].encoding) in ("f16", "bf16")


def test_a_tied_output_matrix_is_left_out(folder: Path) -> None:
    assert "output.weight" not in opened(says(folder, tie_word_embeddings=True)).tensors
    assert "output.weight" in opened(says(folder, tie_word_embeddings=False)).tensors
    rest = {name: tensor for name, tensor in TENSORS.items() if name != "lm_head.weight"}
    save_file(rest, folder / "model.safetensors")
    assert "output.weight" not in opened(says(folder)).tensors
    with pytest.raises(ModelFileError, match="has no output matrix"):
        opened(says(folder, tie_word_embeddings=False))


def test_buffers_of_older_files_are_left_out(folder: Path) -> None:
    more = {"model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(2, np.float32)}
    save_file({**TENSORS, **more}, folder / "model.safetensors")
    assert len(opened(folder).tensors) == len(TENSORS)


def checked(folder: Path) -> list[str]:
    """What is told of a folder that is opened as a decoder."""
    file, told = opened(folder), Notices()
    config = decoder_config(file, "llama", MixtureConfig)
    check_keys(file, "llama", config, told.notice)
    return told.messages


def test_a_key_that_is_not_known_is_told(folder: Path) -> None:
    assert checked(says(folder, use_cache=True, attention_bias=False, pretraining_tp=1)) == []
    (told,) = checked(says(folder, tensor_swirl=0.5, swirls=[1, "a"], more={"a": 1}))
    assert "'llama.tensor_swirl', 'llama.swirls', 'llama.more'" in told
    assert checked(says(folder, tensor_swirl=None)) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_act": "gelu"}, "'llama.hidden_activation' is the string 'gelu', which changes"),
        ({"sliding_window": 8}, "'llama.attention.sliding_window' is the integer 8, which changes"),
        ({"final_logit_softcapping": 30.0}, "'llama.final_logit_softcapping' is the number 30.0"),
        ({"num_key_value_heads": 3}, "cannot be shared out among 3 key-value heads"),
        ({"hidden_size": None}, "config.json: hidden_size is missing, expected an integer"),
        ({"hidden_size": "8"}, "config.json: hidden_size is '8', expected an integer"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers is 1000000000, but there are only 21"),
        ({"num_hidden_layers": 5}, "metadata says 5 blocks, but the file has only 21 tensors"),
        ({"rms_norm_eps": "small"}, "layer_norm_rms_epsilon' is the string 'small', expected a"),
        ({"alibi": True}, r"config.json: alibi is true, which changes results .*; expected false"),
        ({"layer_types": ["full_attention", "linear_attention"]}, "layers of several kinds"),
        (
            {"sliding_window": 8, "max_window_layers": 1, "use_sliding_window": True},
            "layers of several kinds",
        ),
        ({"layer_types": 3, "sliding_window": 8}, "layers of several kinds"),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "rope_type is 'dynamic'; expected"),
        ({"rope_scaling": {"rope_type": "linear"}}, "of the type linear have no factor"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8}}, "have no low_freq_factor"),
        ({"rope_scaling": "linear"}, "config.json: .*"),
        ({"rope_theta": "big"}, "rope_theta is 'big', expected a number"),
        ({"rope_scaling": {"type": "linear", "factor": 2, "spin": 1}}, "have spin 1, which is not"),
        ({"rope_scaling": {"type": "longrope"}}, "config.json: cannot be read: .*_factor"),
    ],
)
def test_what_changes_results_and_cannot_be_applied(
    folder: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelFileError, match=message) as raised:
        checked(says(folder, **changes))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("changes", "window"),
    [
        ({"sliding_window": 32}, 32),
        ({"sliding_window": None}, None),
        ({"sliding_window": 8, "use_sliding_window": False}, None),
        ({"sliding_window": 8, "use_sliding_window": True, "max_window_layers": 2}, None),
        ({"sliding_window": 8, "layer_types": ["full_attention"] * 2}, None),
        ({"sliding_window": 8, "layer_types": ["sliding_attention"] * 2}, 8),
    ],
)
def test_windows(folder: Path, changes: dict[str, Any], window: int | None) -> None:
    metadata = opened(says(folder, **changes)).metadata
    assert metadata.get("llama.attention.sliding_window") == window


@pytest.mark.parametrize(
    "method", ["awq", "gptq", "fp8", "bitsandbytes", "compressed-tensors", "mxfp4"]
)
def test_quantized_folders_are_refused_by_name(folder: Path, method: str) -> None:
    says(folder, quantization_config={"quant_method": method, "bits": 4})
    with pytest.raises(ModelFileError, match=f"is quantized by '{method}', which cannot be run"):
        opened(folder)


def test_a_model_of_no_family_can_be_looked_at(folder: Path) -> None:
    file = opened(says(folder, model_type="novel", shape=[1, 2], nested={"a": 1}))
    assert file.metadata["general.architecture"] == "novel"
    assert file.metadata["novel.hidden_size"] == 8
    assert set(file.tensors) == set(TENSORS)


def header(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    """Changes the header of a safetensors file, and leaves its tensors."""

    def apply(folder: Path) -> None:
        path = folder / "model.safetensors"
        data = path.read_bytes()
        length = int.from_bytes(data[:8], "little")
        document = json.loads(data[8 : 8 + length])
        changed = change(document)
        text = (changed if isinstance(changed, str) else json.dumps(document)).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])

    return apply


NORM = "model.norm.weight"


def longer_header(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(struct.pack("<Q", 2**63) + path.read_bytes()[8:])


def huge_header(folder: Path) -> None:
    with (folder / "model.safetensors").open("r+b") as file:
        file.write(struct.pack("<Q", 200_000_000))
        file.truncate(300_000_000)


def cut_short(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-8])


def nearly_empty(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"abc")


def empty(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"")


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def shape(value: Any) -> Callable[[Path], None]:
    return header(lambda h: h[NORM].update(shape=value))


WRONG: dict[str, tuple[Callable[[Path], None], str]] = {
    "header longer than the file": (longer_header, "its header takes 9223372036854775808 bytes"),
    "header of 200 MB": (huge_header, "its header takes 200000000 bytes, expected at most"),
    "cut short": (cut_short, "is cut short or damaged: its tensors end at byte"),
    "nearly empty": (nearly_empty, "is no safetensors file, or is cut short"),
    "empty": (empty, "is empty, expected a safetensors file"),
    "no JSON": (header(lambda _: "{"), "its header: is not JSON"),
    "deep JSON": (header(lambda _: '{"a":' * 100_000), "its header: is not JSON"),
    "a list": (header(lambda _: "[1]"), "its header: is JSON of something else"),
    "a name twice": (header(lambda _: '{"a": 1, "a": 2}'), "is not JSON: \"'a' is there twice"),
    "no entry": (header(lambda h: h.update({NORM: 3})), f"tensor '{NORM}' is described otherwise"),
    "unknown type": (header(lambda h: h[NORM].update(dtype="F7")), "is of the type 'F7', which is"),
    "negative": (shape([-8]), r"has the shape '\[-8\]', which no tensor has"),
    "no numbers": (shape(["8"]), "which no tensor has"),
    "absurd": (shape([2**40, 2**40]), "which takes 4835703278458516698824704 bytes, and lies from"),
    "many dimensions": (shape([1] * 9), "which no tensor has"),
    "another size": (shape([9]), r"is F32 \[9\], which takes 36 bytes, and lies from byte"),
    "overlapping": (
        header(lambda h: h[NORM].update(data_offsets=[0, 32])),
        "tensors overlap, or there are gaps between them",
    ),
    "beyond": (
        header(lambda h: h[NORM].update(data_offsets=[10**12, 10**12 + 32])),
        "tensors overlap, or there are gaps between them",
    ),
    "before": (
        header(lambda h: h[NORM].update(data_offsets=[-32, 0])),
        "and lies from byte -32 to 0",
    ),
    "pickles": (pickled, "its weights are in pytorch_model.bin, which is not read: save it again"),
    "no weights": (no_weights, f"has neither model.safetensors nor {INDEX}"),
}


@pytest.mark.parametrize("name", WRONG)
def test_malformed_files_are_refused_in_one_line(folder: Path, name: str) -> None:
    change, message = WRONG[name]
    change(folder)
    with pytest.raises(ModelFileError, match=message) as raised:
        opened(folder)
    assert "\n" not in str(raised.value)


def mapped_to(value: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        index = json.loads((folder / INDEX).read_bytes())
        index["weight_map"][NORM] = value
        write_json(folder / INDEX, index)

    return change


def another_index(value: Any) -> Callable[[Path], None]:
    return lambda folder: write_json(folder / INDEX, value)


def one_missing(folder: Path) -> None:
    (folder / "model-00002-of-00002.safetensors").unlink()


def a_tensor_more(folder: Path) -> None:
    path = folder / "model-00001-of-00002.safetensors"
    save_file({**load_file(path), "more": np.ones(1, np.float32)}, path)


WRONG_INDEX: dict[str, tuple[Callable[[Path], None], str]] = {
    "a file missing": (one_missing, "names files that are not there: model-00002-of-00002.safe"),
    "a tensor that is absent": (
        mapped_to("model-00002-of-00002.safetensors"),
        f"tensors that are not where it says: '{NORM}'",
    ),
    "a tensor more": (a_tensor_more, "tensors that are not where it says: 'more'"),
    "outside": (mapped_to("../model.safetensors"), "in '../model.safetensors', expected a"),
    "absolute": (mapped_to("/etc/passwd"), "in '/etc/passwd', expected a"),
    "a number": (mapped_to(3), "in '3', expected a"),
    "no map": (another_index({"weight_map": []}), "has no 'weight_map'"),
    "no JSON": (another_index("{'a': 1}"), "is not JSON"),
    "a list": (another_index([]), "is JSON of something else, expected an object"),
}


@pytest.mark.parametrize("name", WRONG_INDEX)
def test_an_index_that_does_not_fit(sharded: Path, name: str) -> None:
    change, message = WRONG_INDEX[name]
    change(sharded)
    with pytest.raises(ModelFileError, match=message) as raised:
        opened(sharded)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"a": 1}\x00', "\xff"])
def test_a_config_that_is_none(folder: Path, content: str) -> None:
    (folder / "config.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(ModelFileError, match=r"config.json: is (not JSON|JSON of something else)"):
        opened(folder)


def test_a_file_without_a_config(folder: Path) -> None:
    (folder / "config.json").unlink()
    with pytest.raises(ModelFileError, match=r"has no config.json beside it"):
        opened(folder / "model.safetensors")


def test_experts_are_stacked_or_refused(folder: Path) -> None:
    says(folder, model_type="mixtral", num_local_experts=2, num_experts_per_tok=1)
    stem = "model.layers.0.block_sparse_moe.experts"
    more = {f"{stem}.{n}.w1.weight": np.full((12, 8), n, np.float32) for n in range(3)}
    save_file({**TENSORS, **more}, folder / "model.safetensors")
    file = opened(folder)
    name = "blk.0.ffn_gate_exps.weight"
    assert file.tensors[name].shape == (3, 12, 8)
    stack = file.raw(name).view(np.float32)
    np.testing.assert_array_equal(stack.reshape(3, 12, 8), np.stack([*more.values()]))
    one = file.raw(name, (12, 24))
    assert np.shares_memory(one, file.raw(name, (14, 16)))  # where it is in the file
    np.testing.assert_array_equal(file.raw(name, (10, 14)).view(np.float32), stack[10:14])
    file.release(name)
    more[f"{stem}.1.w1.weight"] = np.ones((12, 4), np.float32)
    save_file({**TENSORS, **more}, folder / "model.safetensors")
    with pytest.raises(ModelFileError, match=f"of the experts of {name} there are 3, up to num"):
        opened(folder)
    del more[f"{stem}.1.w1.weight"]
    save_file({**TENSORS, **more}, folder / "model.safetensors")
    with pytest.raises(ModelFileError, match=f"of the experts of {name} there are 2, up to num"):
        opened(folder)
