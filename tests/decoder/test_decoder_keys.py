"""Each key of the metadata is applied, refused where it changes results, harmless, or told."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from notices import Notices
from tiny_models import llama, open_model, write_gguf

from pipelines.common.checkpoints.checkpoint import Metadata, MetadataArray, TensorInfo
from pipelines.common.decoder.config import DecoderConfig
from pipelines.common.decoder.keys import KEYS, Use, check_keys, check_kind
from pipelines.common.encodings import F32, Q4_0
from pipelines.common.errors import ModelFileError

CONFIG = DecoderConfig(320, 128, 256, 512, 2, 4, 2, 64, 1e-5, 500000.0)

SPECIFIED = """
context_length embedding_length block_count feed_forward_length use_parallel_residual
tensor_data_layout expert_count expert_used_count attention.head_count attention.head_count_kv
attention.max_alibi_bias attention.clamp_kqv attention.layer_norm_epsilon
attention.layer_norm_rms_epsilon attention.key_length attention.value_length rope.dimension_count
rope.freq_base rope.scaling.type rope.scaling.factor rope.scaling.original_context_length
rope.scaling.finetuned rope.scale_linear rope.scale
"""
"""Those that https://github.com/ggml-org/ggml/blob/master/docs/gguf.md has for any language model
with attention, and for `llama`."""

OTHERWISE: Mapping[str, Any] = {
    "attention.causal": False,
    "attention.rope_pattern": MetadataArray(int, 2, lambda _: [1, 0]),
    "attention.sliding_window": 127,
    "hidden_activation": "gelu",
    "swin_norm": True,
    "tensor_data_layout": "jploski",
    "use_parallel_residual": True,
}
"""Values that are not neutral, of keys that are neither a number nor a scale."""


def checked(values: Mapping[str, Any], architecture: str = "llama") -> list[str]:
    """The notices that metadata lead to, whose keys have no prefix."""
    path, progress = Path("m.gguf"), Notices()
    pairs = {f"{architecture}.{key}": value for key, value in values.items()}
    tensors = {"token_embd.weight": TensorInfo("token_embd.weight", (320, 256), F32, 0, 4)}
    file: Any = SimpleNamespace(path=path, metadata=Metadata(path, pairs), tensors=tensors)
    check_keys(file, architecture, CONFIG, progress.notice)
    return progress.messages


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("architecture", ["llama", "qwen3"])
def test_every_key_of_the_table(key: str, architecture: str) -> None:
    use = KEYS[key]
    if isinstance(use, Use):
        value = CONFIG.vocabulary if key == "vocab_size" else 7
        assert checked({key: value}, architecture) == []
        return
    for neutral in (0, 128, 4096) if callable(use) else use:
        assert checked({key: neutral}, architecture) == []
    with pytest.raises(ModelFileError) as error:
        checked({key: OTHERWISE.get(key, 7)}, architecture)
    assert f"'{architecture}.{key}'" in str(error.value)
    assert "changes results and cannot be applied" in str(error.value)


def test_all_that_is_specified_is_in_the_table() -> None:
    assert set(SPECIFIED.split()) <= KEYS.keys()


def test_what_is_not_known_is_told_in_one_line() -> None:
    (notice,) = checked({"rope.twist": 2.0, "odd\nname": 1, "logit_scale": 1.0})
    assert notice.startswith(
        r"m.gguf has metadata keys that are not known and not applied: 'llama.rope.twist',"
        r" 'llama.odd\nname'; "
    )


def test_keys_of_other_prefixes_are_nobodys_affair() -> None:
    path, progress = Path("m.gguf"), Notices()
    pairs = {"qwen3.logit_scale": 2.0, "general.author": "me", "quantize.imatrix.file": "x"}
    file: Any = SimpleNamespace(path=path, metadata=Metadata(path, pairs), tensors={})
    check_keys(file, "llama", CONFIG, progress.notice)
    assert progress.messages == []


def test_arrays_count_element_by_element() -> None:
    def numbers(*values: int) -> MetadataArray:
        return MetadataArray(int, len(values), lambda _: [*values])

    assert checked({"attention.sliding_window": numbers(0, 0, 128)}) == []
    assert checked({"rope.dimension_sections": numbers(0, 0, 0, 0)}) == []
    with pytest.raises(ModelFileError, match="sliding_window' is the array of 2 integers"):
        checked({"attention.sliding_window": numbers(0, 64)})
    with pytest.raises(ModelFileError, match="sliding_window' is the string 'all'"):
        checked({"attention.sliding_window": "all"})


def test_long_arrays_are_not_read() -> None:
    endless = MetadataArray(int, 10**9, lambda _: pytest.fail())
    with pytest.raises(ModelFileError, match="clamp_kqv' is the array of 1000000000 integers"):
        checked({"attention.clamp_kqv": endless})


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[DecoderConfig, list[float]]:
    return read(write_gguf(tmp_path_factory.mktemp("plain") / "m.gguf", llama()))


def read(path: Path) -> tuple[DecoderConfig, list[float]]:
    model = open_model(path)
    return model.config, model.config.rope.frequencies(128).tolist()


APPLIED: Mapping[str, dict[str, Any]] = {
    "block_count": {"block_count": 1},
    "context_length": {"context_length": 64},
    "embedding_length": {"embedding_length": 128},
    "feed_forward_length": {"feed_forward_length": 256},
    "attention.head_count": {"attention.head_count": 2},
    "attention.head_count_kv": {"attention.head_count_kv": 4},
    "attention.key_length": {"attention.key_length": 32},
    "attention.layer_norm_rms_epsilon": {"attention.layer_norm_rms_epsilon": 1e-6},
    "attention.scale": {"attention.scale": 0.25},
    "attention.value_length": {"attention.value_length": 32},
    "rope.dimension_count": {"rope.dimension_count": 32},
    "rope.freq_base": {"rope.freq_base": 1e6},
    "rope.scale_linear": {"rope.scale_linear": 2.0},
    "rope.scaling.attn_factor": {"rope.scaling.attn_factor": 2.0},
    "rope.scaling.factor": {"rope.scaling.factor": 2.0},
    "rope.scaling.type": {"rope.scaling.type": "yarn", "rope.scaling.factor": 2.0},
    **{
        f"rope.scaling.{key}": {
            "rope.scaling.type": kind,
            "rope.scaling.factor": 2.0,
            f"rope.scaling.{key}": value,
        }
        for kind, key, value in (
            ("llama3", "high_freq_factor", 8.0),
            ("llama3", "low_freq_factor", 2.0),
            ("llama3", "original_context_length", 64),
            ("yarn", "yarn_attn_factor", 2.0),
            ("yarn", "yarn_beta_fast", 2.0),
            ("yarn", "yarn_beta_slow", 4.0),
            ("yarn", "yarn_ext_factor", 0.5),
            ("yarn", "yarn_log_multiplier", 0.1),
        )
    },
}
"""For each key that is applied, a file that it makes a difference to."""


@pytest.mark.parametrize(
    "key",
    [
        key
        for key, use in KEYS.items()
        if use is Use.APPLIED and key not in ("vocab_size", "attention.layer_norm_epsilon")
    ],
)
def test_what_is_applied_changes_something_or_is_refused(
    tmp_path: Path, plain: tuple[DecoderConfig, list[float]], key: str
) -> None:
    """How, the other tests say."""
    metadata = {f"llama.{name}": value for name, value in APPLIED[key].items()}
    without = {name: value for name, value in metadata.items() if name != f"llama.{key}"}
    path = tmp_path / "m.gguf"
    before = read(write_gguf(path, llama(), metadata=without)) if without else plain
    try:
        after = read(write_gguf(path, llama(), metadata=metadata))
    except ModelFileError:
        return
    assert after != before


def test_the_epsilon_of_layer_norms_counts_where_there_is_no_other(tmp_path: Path) -> None:
    of_rms, of_layers = (f"llama.attention.layer_norm{kind}epsilon" for kind in ("_rms_", "_"))
    for metadata, epsilon in (
        ({of_rms: None, of_layers: 2**-10}, 2**-10),
        ({of_rms: 2**-13, of_layers: 2**-10}, 2**-13),
    ):
        config, _ = read(write_gguf(tmp_path / "m.gguf", llama(), metadata=metadata))
        assert config.norm_epsilon == epsilon


@pytest.mark.parametrize("value", [321, 0, 2**40, "many"])
def test_the_rows_of_the_embedding_count_not_what_is_said_of_them(value: Any) -> None:
    """As in llama.cpp, which does not read the key for this."""
    (notice,) = checked({"vocab_size": value})
    assert "the embedding has 320 rows; the rows are what counts" in notice


def test_another_version_of_the_block_formats_is_told() -> None:
    path, progress = Path("m.gguf"), Notices()
    metadata = Metadata(path, {"general.quantization_version": 3})
    for encoding, told in ((F32, 0), (Q4_0, 1)):
        tensors = {"t": TensorInfo("t", (32,), encoding, 0, 0)}
        file: Any = SimpleNamespace(path=path, metadata=metadata, tensors=tensors)
        check_keys(file, "llama", CONFIG, progress.notice)
        assert len(progress.messages) == told


@pytest.mark.parametrize(
    "key",
    ["llama.attention.head_count", "llama.attention.head_count_kv", "llama.feed_forward_length"],
)
@pytest.mark.parametrize(("values", "same"), [((1, 1), True), ((1, 2), False), ((1,), False)])
def test_sizes_that_are_given_block_by_block(
    tmp_path: Path,
    plain: tuple[DecoderConfig, list[float]],
    key: str,
    values: tuple[int, ...],
    same: bool,
) -> None:
    size = {"head_count": 4, "head_count_kv": 2, "feed_forward_length": 512}
    array = [size[key.rpartition(".")[2]] // value for value in values]
    path = write_gguf(tmp_path / "m.gguf", llama(), metadata={key: array})
    if same:
        assert open_model(path).config == plain[0]
    else:
        with pytest.raises(
            ModelFileError, match=f"'{key}' is the array of .* blocks differ cannot"
        ):
            open_model(path)


def test_another_type_of_file_is_said_to_be_what_it_is(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", llama(), metadata={"general.type": "adapter"})
    with pytest.raises(ModelFileError, match=r"'general\.type' is 'adapter', expected a model"):
        open_model(path)


@pytest.mark.parametrize(
    ("count", "tensor", "sign"),
    [
        (8, "ffn_up.weight", "'llama.expert_count' is integer 8"),
        (0, "ffn_up_exps.weight", "has 'blk.0.ffn_up_exps.weight'"),
        (0, "ffn_gate_inp.weight", "has 'blk.0.ffn_gate_inp.weight'"),
        (0, "ffn_gate.0.weight", "has 'blk.0.ffn_gate.0.weight'"),
    ],
)
def test_experts_where_a_family_has_none(count: int, tensor: str, sign: str) -> None:
    path = Path("m.gguf")
    metadata = Metadata(path, {"llama.expert_count": count})
    file: Any = SimpleNamespace(path=path, metadata=metadata, tensors={f"blk.0.{tensor}": None})
    with pytest.raises(ModelFileError) as error:
        check_kind(file, "llama", DecoderConfig)
    assert f"mixture-of-experts model ({sign}); only dense" in str(error.value)


@pytest.mark.parametrize(
    ("metadata", "renamed", "message"),
    [
        ({"expert_count": 8}, {}, r"a token is given to 0 of 8 experts$"),
        ({"expert_count": 2, "expert_used_count": 3}, {}, r"given to 3 of 2 experts$"),
        (
            {"expert_count": 2, "expert_used_count": 1},
            {},
            r"missing tensors: blk.0.ffn_gate_inp.weight, blk.0.ffn_gate_exps.weight, blk.0.ffn_up",
        ),
        (
            {"expert_count": 2, "expert_used_count": 1},
            {"blk.0.ffn_gate.weight": "blk.0.ffn_gate_exps.weight"},
            r"blk.0.ffn_gate_exps.weight is \[512, 256\], expected \[2, 512, 256\]",
        ),
        (
            {"expert_count": 2, "expert_used_count": 1},
            {"blk.1.ffn_up.weight": "blk.1.ffn_up.0.weight"},
            r"a tensor for each expert \('blk.1.ffn_up.0.weight'\); expected one for all",
        ),
        ({"expert_gating_func": 4}, {}, r"expert_gating_func' is 4; expected a number from 0 to 3"),
        (
            {"expert_count": 2, "expert_used_count": 1, "leading_dense_block_count": 1},
            {},
            r"leading_dense_block_count' is the integer 1, which changes results",
        ),
        ({}, {"blk.0.ffn_up.weight": "blk.0.ffn_up_exps.weight"}, "unexpected tensors: 'blk.0.ffn"),
    ],
)
def test_experts_that_do_not_fit(
    tmp_path: Path, metadata: dict[str, Any], renamed: dict[str, str], message: str
) -> None:
    metadata = {f"llama.{key}": value for key, value in metadata.items()}
    path = write_gguf(tmp_path / "m.gguf", llama(), metadata=metadata, renamed=renamed)
    with pytest.raises(ModelFileError, match=message) as error:
        open_model(path)
    assert "\n" not in str(error.value)


def test_a_model_that_says_all_neutral_things_runs_as_one_that_says_none(tmp_path: Path) -> None:
    neutral = {f"llama.{key}": use[-1] for key, use in KEYS.items() if isinstance(use, tuple)}
    progress = Notices()
    path = write_gguf(tmp_path / "m.gguf", llama(), metadata=neutral)
    model = open_model(path, progress=progress)
    assert model.config == open_model(write_gguf(tmp_path / "n.gguf", llama())).config
    assert progress.messages == []
