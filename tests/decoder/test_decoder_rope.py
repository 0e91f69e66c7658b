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

from pipelines.common.decoder import rope
from pipelines.common.errors import ModelFileError

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
    names = {"rope_type": "type", "original_max_position_embeddings": "original_context_length"}
    return {f"llama.rope.scaling.{names.get(key, key)}": scaling[key] for key in scaling}


def frequencies(path: Path) -> Any:
    model = open_model(path)
    return rope.frequencies(model.config, model.file, "llama")


@pytest.mark.parametrize(("head_dim", "scaling"), PUBLISHED)
def test_llama3_factors(head_dim: int, scaling: dict[str, Any]) -> None:
    expected, _ = ROPE_INIT_FUNCTIONS["llama3"](config_with(scaling, head_dim), "cpu")
    plain = (1 / ROPE_BASE ** (np.arange(0, head_dim, 2) / head_dim)).astype(np.float32)
    factors = rope.llama3_factors(
        plain,
        factor=scaling["factor"],
        low=scaling["low_freq_factor"],
        high=scaling["high_freq_factor"],
        original=scaling["original_max_position_embeddings"],
    )
    assert len(np.unique(factors)) > 3  # kept, blended and stretched
    np.testing.assert_allclose(plain / factors, expected, rtol=1e-6)


@pytest.mark.parametrize("scaling", [LINEAR, LLAMA3_SCALING], ids=["linear", "llama3"])
def test_scaling_named_by_metadata(tmp_path: Path, scaling: dict[str, Any]) -> None:
    path = write_gguf(tmp_path / "model.gguf", llama(), metadata=scaling_metadata(scaling))
    expected, _ = ROPE_INIT_FUNCTIONS[scaling["rope_type"]](config_with(scaling), "cpu")
    np.testing.assert_allclose(frequencies(path), expected, rtol=1e-6)


def test_scaling_carried_as_a_tensor(tmp_path: Path) -> None:
    divisors = np.linspace(1, 32, 32, dtype=np.float32)
    plain = frequencies(write_gguf(tmp_path / "plain.gguf", llama()))
    path = write_gguf(tmp_path / "model.gguf", llama(), rope_factors=divisors)
    np.testing.assert_allclose(frequencies(path), plain / divisors, rtol=1e-6)


@pytest.mark.parametrize(
    "scaling", [{"rope_type": "default"}, LLAMA3_SCALING], ids=["plain", "llama3"]
)
def test_tables(tmp_path: Path, scaling: dict[str, Any]) -> None:
    positions = 8192
    metadata = {} if scaling["rope_type"] == "default" else scaling_metadata(scaling)
    path = write_gguf(tmp_path / "model.gguf", llama(), metadata=metadata)
    cos, sin = rope.tables(frequencies(path), positions)
    embedding = LlamaRotaryEmbedding(config_with(scaling))
    expected_cos, expected_sin = embedding(torch.zeros(1), torch.arange(positions)[None])
    # `transformers` repeats the table for the second half of a head.
    np.testing.assert_allclose(cos, expected_cos[0, :, :32], atol=1e-3)
    np.testing.assert_allclose(sin, expected_sin[0, :, :32], atol=1e-3)
    np.testing.assert_allclose(cos[:128], expected_cos[0, :128, :32], atol=2e-5)
    np.testing.assert_allclose(sin[:128], expected_sin[0, :128, :32], atol=2e-5)


@pytest.mark.parametrize("frequency", [1e9, 3e38])
def test_angles_that_mean_nothing_are_refused(frequency: float) -> None:
    with pytest.raises(
        ModelFileError, match=r"radians a position; expected at most 3.39e\+05 for 100"
    ):
        rope.tables(np.float32([1, frequency]), 100)
