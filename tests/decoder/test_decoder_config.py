"""Metadata that is missing, of the wrong type or contradictory ends in one line."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFWriter
from tiny_models import ROPE_BASE, llama, open_model, write_gguf

from pipelines.common.errors import ModelFileError

MODEL = llama()


def refused(tmp_path: Path, metadata: dict[str, Any], **options: Any) -> str:
    """What is said of a sound file in which `metadata` has been replaced."""
    path = write_gguf(tmp_path / "model.gguf", MODEL, metadata=metadata, **options)
    with pytest.raises(ModelFileError) as error:
        open_model(path).start(slots=1, max_length=8)
    message = str(error.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def test_reads_what_gguf_specifies(tmp_path: Path) -> None:
    config = open_model(write_gguf(tmp_path / "model.gguf", MODEL)).config
    expected = MODEL.config
    assert config.vocabulary == expected.vocab_size
    assert config.context_length == expected.max_position_embeddings
    assert config.hidden_size == expected.hidden_size
    assert config.intermediate_size == expected.intermediate_size
    assert config.layers == expected.num_hidden_layers
    assert config.heads == expected.num_attention_heads
    assert config.kv_heads == expected.num_key_value_heads
    assert config.head_dim == expected.head_dim
    assert config.norm_epsilon == pytest.approx(expected.rms_norm_eps)
    assert config.rope.base == ROPE_BASE


def test_optional_keys_have_their_specified_defaults(tmp_path: Path) -> None:
    optional = ("llama.vocab_size", "llama.rope.dimension_count", "llama.rope.freq_base")
    path = write_gguf(tmp_path / "model.gguf", MODEL, metadata=dict.fromkeys(optional))
    config = open_model(path).config
    assert (config.vocabulary, config.head_dim) == (MODEL.config.vocab_size, 64)
    assert config.rope.base == 10000.0  # as llama.cpp has it


@pytest.mark.parametrize(
    "key",
    [
        "llama.context_length",
        "llama.embedding_length",
        "llama.feed_forward_length",
        "llama.block_count",
        "llama.attention.head_count",
        "llama.attention.head_count_kv",
        "llama.attention.layer_norm_rms_epsilon",
    ],
)
@pytest.mark.parametrize("value", [None, "many"], ids=["missing", "of the wrong type"])
def test_required_keys(tmp_path: Path, key: str, value: str | None) -> None:
    message = refused(tmp_path, {key: value})
    assert key in message
    assert ("missing" in message) == (value is None)


@pytest.mark.parametrize("value", [0, 2**31, 2**40, -1])
@pytest.mark.parametrize(
    "key",
    ["llama.context_length", "llama.block_count", "llama.attention.head_count"],
)
def test_sizes_out_of_range(tmp_path: Path, key: str, value: int) -> None:
    message = refused(tmp_path, {key: value})
    assert key in message
    assert str(value) in message


@pytest.mark.parametrize(
    ("metadata", "figures"),
    [
        ({"llama.attention.head_count_kv": 3}, ["4", "3"]),
        ({"llama.attention.head_count_kv": 8}, ["4", "8"]),
        ({"llama.attention.head_count": 6, "llama.attention.head_count_kv": 2}, ["256", "6"]),
        ({"llama.rope.dimension_count": 66}, ["64", "66"]),
        ({"llama.rope.dimension_count": 31}, ["64", "31"]),
        ({"llama.attention.value_length": 32}, ["attn_v", "[128, 256]", "[64, 256]"]),
        ({"llama.attention.key_length": 63, "llama.rope.dimension_count": 63}, ["63"]),
        ({"llama.attention.layer_norm_rms_epsilon": -0.25}, ["-0.25"]),
        ({"llama.rope.freq_base": 0.5}, ["0.5"]),
        ({"llama.rope.freq_base": 1e300}, ["1e+300"]),
        ({"llama.block_count": 3}, ["blk.2.attn_q.weight"]),
        ({"llama.block_count": 1}, ["blk.1.attn_q.weight"]),
        (
            {"llama.embedding_length": 128, "llama.rope.dimension_count": None},
            ["[320, 256]", "[320, 128]"],
        ),
        ({"llama.feed_forward_length": 2**31 - 1}, ["[512, 256]", "[2147483647, 256]"]),
    ],
)
def test_contradictions(tmp_path: Path, metadata: dict[str, Any], figures: list[str]) -> None:
    message = refused(tmp_path, metadata)
    for figure in figures:
        assert figure in message


def test_many_blocks_are_refused_before_a_table_of_them_is_made(tmp_path: Path) -> None:
    for blocks in (10**5, 2**31 - 1):
        tracemalloc.start()
        try:
            message = refused(tmp_path, {"llama.block_count": blocks})
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert str(blocks) in message
        assert peak < 20 << 20


def test_another_architecture(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    writer = GGUFWriter(path, "mamba")
    writer.add_tensor("token_embd.weight", np.zeros((4, 8), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ModelFileError, match=r"'mamba'.*'llama'; no pipeline here runs it"):
        open_model(path)


@pytest.mark.parametrize(
    "metadata",
    [
        {"type": "longrope", "factor": 8.0},
        {"type": "dynamic"},
        {"type": "linear", "factor": -4.0},
        {"type": "linear", "factor": 1e300},
        {"type": "linear", "factor": "4"},
        {"factor": float("nan")},
        {"attn_factor": 0.0},
        {"type": "yarn", "factor": 8.0, "yarn_ext_factor": 0.5},
        {"type": "yarn", "factor": 8.0, "yarn_log_multiplier": 0.1},
        {"type": "yarn", "factor": 8.0, "yarn_beta_slow": 64.0},
        {"type": "yarn", "factor": 8.0, "yarn_attn_factor": -1.0},
        {"type": "llama3", "factor": -8.0},
        {"type": "llama3", "factor": 8.0, "low_freq_factor": 4.0, "high_freq_factor": 4.0},
        {"type": "llama3", "factor": 8.0, "low_freq_factor": 0.0},
        {"type": "llama3", "factor": 8.0, "original_context_length": 0},
    ],
)
def test_rope_scalings_that_mean_nothing(tmp_path: Path, metadata: dict[str, Any]) -> None:
    keys = {f"llama.rope.scaling.{key}": value for key, value in metadata.items()}
    assert "scaling" in refused(tmp_path, keys)


@pytest.mark.parametrize(
    "factors",
    [
        np.ones(31, np.float32),
        np.zeros(32, np.float32),
        -np.ones(32, np.float32),
        np.full(32, np.nan, np.float32),
        np.full(32, np.inf, np.float32),
        np.full(32, 1e-45, np.float32),
        np.ones(32, np.float16),
    ],
    ids=["too few", "zero", "negative", "nan", "infinite", "denormal", "float16"],
)
def test_rope_divisors_that_cannot_be_used(tmp_path: Path, factors: np.ndarray[Any, Any]) -> None:
    assert "rope_freqs.weight" in refused(tmp_path, {}, rope_factors=factors)
