"""Rotary frequencies and tables against `transformers`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import LLAMA3_SCALING, ROPE_BASE, llama, open_model, write_gguf
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from pipelines.common.errors import ModelFileError
from pipelines.common.rotary.angles import divisors
from pipelines.common.rotary.rope import Rope
from pipelines.common.rotary.scaling import RopeScaling

LINEAR = {"rope_type": "linear", "factor": 4.0}

# What Llama 3.1 8B and Llama 3.2 1B are published with.
PUBLISHED = [
    (128, {**LLAMA3_SCALING, "original_max_position_embeddings": 8192}),
    (64, {**LLAMA3_SCALING, "original_max_position_embeddings": 8192, "factor": 32.0}),
]


def config_with(scaling: dict[str, Any], head_dim: int = 64) -> LlamaConfig:
    return LlamaConfig(
        hidden_size=head_dim,
        num_attention_heads=1,
        max_position_embeddings=131072,
        rope_parameters={"rope_theta": ROPE_BASE, **scaling},
    )


def scaling_metadata(scaling: dict[str, Any]) -> dict[str, Any]:
    names = {
        "rope_type": "type",
        "original_max_position_embeddings": "original_context_length",
        "attention_factor": "yarn_attn_factor",
        "beta_fast": "yarn_beta_fast",
        "beta_slow": "yarn_beta_slow",
    }
    return {f"llama.rope.scaling.{names.get(key, key)}": scaling[key] for key in scaling}


def rope(path: Path) -> Rope:
    return open_model(path).config.rope


def frequencies(path: Path) -> Any:
    return rope(path).frequencies(128)


@pytest.mark.parametrize(("head_dim", "scaling"), PUBLISHED)
def test_llama3_divisors(head_dim: int, scaling: dict[str, Any]) -> None:
    expected, _ = ROPE_INIT_FUNCTIONS["llama3"](config_with(scaling, head_dim), "cpu")
    plain = (1 / ROPE_BASE ** (np.arange(0, head_dim, 2) / head_dim)).astype(np.float32)
    ours = RopeScaling(
        "llama3",
        factor=scaling["factor"],
        original=scaling["original_max_position_embeddings"],
        low=scaling["low_freq_factor"],
        high=scaling["high_freq_factor"],
    )
    divided_by = divisors(ours, plain, ROPE_BASE)
    assert len(np.unique(divided_by)) > 3  # kept, blended and stretched
    np.testing.assert_allclose(plain / divided_by, expected, rtol=1e-6)


YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4096}


@pytest.mark.parametrize(
    "scaling",
    [
        LINEAR,
        LLAMA3_SCALING,
        YARN,
        {**YARN, "factor": 32.0, "beta_fast": 16.0, "beta_slow": 2.0},
        {**YARN, "attention_factor": 1.25},
        {**YARN, "original_max_position_embeddings": 131072},  # kept whole
    ],
    ids=["linear", "llama3", "yarn", "yarn with bounds", "yarn with a factor", "yarn far off"],
)
def test_scaling_named_by_metadata(tmp_path: Path, scaling: dict[str, Any]) -> None:
    path = write_gguf(tmp_path / "model.gguf", llama(), metadata=scaling_metadata(scaling))
    expected, magnitude = ROPE_INIT_FUNCTIONS[scaling["rope_type"]](config_with(scaling), "cpu")
    np.testing.assert_allclose(frequencies(path), expected, rtol=1e-6)
    assert rope(path).scaling.magnitude == pytest.approx(magnitude)


def test_llama3_scaling_without_its_figures_is_that_of_llama_3_1(tmp_path: Path) -> None:
    named = {"rope_type": "llama3", "factor": 8.0}
    path = write_gguf(tmp_path / "model.gguf", llama(), metadata=scaling_metadata(named))
    of_llama = {**LLAMA3_SCALING, "original_max_position_embeddings": 8192}
    expected, _ = ROPE_INIT_FUNCTIONS["llama3"](config_with(of_llama), "cpu")
    np.testing.assert_allclose(frequencies(path), expected, rtol=1e-6)


DIVISORS = np.linspace(1, 32, 32, dtype=np.float32)


@pytest.mark.parametrize(
    ("keys", "divisor"),
    [
        # As llama_model_base::load_hparams of llama.cpp (src/llama-model.cpp) has it.
        ({"scale_linear": 4.0}, 4.0),
        ({"scaling.factor": 4.0}, 4.0),
        ({"scaling.factor": 4}, 4.0),
        ({"scaling.factor": 0.5}, 0.5),
        ({"scaling.type": "linear", "scaling.factor": 4.0}, 4.0),
        ({"scaling.type": "linear", "scale_linear": 4.0}, 4.0),
        ({"scaling.type": "linear"}, 1.0),
        ({"scaling.type": "linear", "scaling.factor": 0.0}, 1.0),
        ({"scaling.factor": 2.0, "scale_linear": 4.0}, 2.0),
        ({"scaling.factor": 0.0, "scale_linear": 4.0}, 1.0),
        ({"scaling.type": "none", "scaling.factor": 4.0}, 1.0),
        ({"scaling.type": "none", "scale_linear": 4.0}, 1.0),
        ({"scale_linear": 1.0}, 1.0),
        ({"scaling.finetuned": True, "scaling.original_context_length": 64}, 1.0),
    ],
)
@pytest.mark.parametrize("tensor", [None, DIVISORS], ids=["no tensor", "tensor"])
def test_every_way_to_say_linear(
    tmp_path: Path, keys: dict[str, Any], divisor: float, tensor: Any
) -> None:
    plain = frequencies(write_gguf(tmp_path / "plain.gguf", llama()))
    metadata = {f"llama.rope.{key}": value for key, value in keys.items()}
    path = write_gguf(tmp_path / "model.gguf", llama(), metadata=metadata, rope_factors=tensor)
    expected = plain / divisor / (1.0 if tensor is None else tensor)
    np.testing.assert_allclose(frequencies(path), expected, rtol=1e-6)


def test_a_tensor_of_divisors_and_a_scaling_of_the_low_frequencies(tmp_path: Path) -> None:
    """What `llama3` names is the tensor; YaRN comes on top of one, as in llama.cpp."""
    plain = frequencies(write_gguf(tmp_path / "plain.gguf", llama()))
    for scaling in (LLAMA3_SCALING, YARN):
        metadata = scaling_metadata(scaling)
        alone = frequencies(write_gguf(tmp_path / "alone.gguf", llama(), metadata=metadata))
        path = write_gguf(tmp_path / "both.gguf", llama(), metadata=metadata, rope_factors=DIVISORS)
        expected = (plain if scaling is LLAMA3_SCALING else alone) / DIVISORS
        np.testing.assert_allclose(frequencies(path), expected, rtol=1e-6)


def test_a_factor_of_attention_beside_any_scaling(tmp_path: Path) -> None:
    metadata = {"llama.rope.scaling.attn_factor": 1.5, "llama.attention.scale": 0.25}
    config = open_model(write_gguf(tmp_path / "m.gguf", llama(), metadata=metadata)).config
    assert config.attention_scale == pytest.approx(0.25)
    cos, sin = config.rope.tables(100)
    np.testing.assert_allclose(np.hypot(cos, sin), 1.5, rtol=1e-6)


@pytest.mark.parametrize(
    "scaling", [{"rope_type": "default"}, LLAMA3_SCALING], ids=["plain", "llama3"]
)
def test_tables(tmp_path: Path, scaling: dict[str, Any]) -> None:
    positions = 8192
    metadata = {} if scaling["rope_type"] == "default" else scaling_metadata(scaling)
    path = write_gguf(tmp_path / "model.gguf", llama(), metadata=metadata)
    cos, sin = rope(path).tables(positions)
    embedding = LlamaRotaryEmbedding(config_with(scaling))
    expected_cos, expected_sin = embedding(torch.zeros(1), torch.arange(positions)[None])
    # `transformers` repeats the table for the second half of a head.
    np.testing.assert_allclose(cos, expected_cos[0, :, :32], atol=1e-3)
    np.testing.assert_allclose(sin, expected_sin[0, :, :32], atol=1e-3)
    np.testing.assert_allclose(cos[:128], expected_cos[0, :128, :32], atol=2e-5)
    np.testing.assert_allclose(sin[:128], expected_sin[0, :128, :32], atol=2e-5)


@pytest.mark.parametrize("factor", [1e-9, 1e-38])
def test_angles_that_mean_nothing_are_refused(factor: float) -> None:
    with pytest.raises(
        ModelFileError, match=r"radians a position; expected at most 3.39e\+05 for 100"
    ):
        Rope(4, 1e4, factors=(1.0, factor)).tables(100)
