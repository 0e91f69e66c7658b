"""Logits of every target against `transformers`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from every_target import every_target, float32_tolerance
from gguf import GGMLQuantizationType as Type
from numpy.typing import NDArray
from tiny_models import (
    LLAMA3_SCALING,
    MIXED,
    in_transformers,
    llama,
    logits,
    open_model,
    random_tokens,
    write_gguf,
)
from transformers import LlamaForCausalLM
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

TOKENS = random_tokens(100)
LINEAR_SCALING = {"rope_type": "linear", "factor": 4.0}
YARN_SCALING = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}


@dataclass(frozen=True)
class Variant:
    """A model and how its file says what it is.

    Attributes:
        tied: Whether the output matrix is the embedding.
        scaling: What the model's rotary frequencies are scaled by.
        head_dim: Elements of a head.
        metadata: Says so in the file; without any, a tensor of divisors does.
    """

    tied: bool = False
    scaling: Mapping[str, Any] | None = None
    head_dim: int = 64
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def model(self) -> LlamaForCausalLM:
        return llama(tied=self.tied, scaling=self.scaling, head_dim=self.head_dim)

    def write(self, path: Path) -> Path:
        model = self.model()
        by_tensor = self.scaling is not None and not self.metadata
        factors = divisors(model) if by_tensor else None
        return write_gguf(path, model, metadata=self.metadata, rope_factors=factors)


def divisors(model: LlamaForCausalLM) -> NDArray[np.float32]:
    """What llama.cpp's converter writes: plain frequencies by scaled ones."""
    config = model.config
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")
    base = config.rope_parameters["rope_theta"]
    plain = 1 / base ** (np.arange(0, config.head_dim, 2) / config.head_dim)
    return (plain / scaled.numpy()).astype(np.float32)


VARIANTS = {
    "untied": Variant(),
    "tied": Variant(tied=True),
    "scaled by a tensor": Variant(tied=True, scaling=LLAMA3_SCALING),
    "scaled by metadata": Variant(
        scaling=LLAMA3_SCALING,
        metadata={
            "llama.rope.scaling.type": "llama3",
            "llama.rope.scaling.factor": 8.0,
            "llama.rope.scaling.low_freq_factor": 1.0,
            "llama.rope.scaling.high_freq_factor": 4.0,
            "llama.rope.scaling.original_context_length": 64,
        },
    ),
    "heads of 20": Variant(head_dim=20),
    "scaled linearly": Variant(
        scaling=LINEAR_SCALING,
        metadata={"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 4.0},
    ),
    "scaled linearly, as older files say it": Variant(
        scaling=LINEAR_SCALING, metadata={"llama.rope.scale_linear": 4.0}
    ),
    "scaled by YaRN": Variant(
        scaling=YARN_SCALING,
        metadata={
            "llama.rope.scaling.type": "yarn",
            "llama.rope.scaling.factor": 4.0,
            "llama.rope.scaling.original_context_length": 32,
        },
    ),
}


@dataclass(frozen=True)
class Case:
    """A file, and its logits as `transformers` computes them."""

    path: Path
    in_memory: NDArray[np.float32]
    from_file: NDArray[np.float32]


@pytest.fixture(scope="module", params=VARIANTS)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    variant = VARIANTS[request.param]
    path = variant.write(tmp_path_factory.mktemp("variant") / "model.gguf")
    return Case(
        path,
        logits(variant.model(), TOKENS),
        logits(in_transformers(path, variant.scaling), TOKENS),
    )


def scored(path: Path, target: str, encoding: str = "float32") -> NDArray[np.float32]:
    runner = open_model(path, target=target, encoding=encoding).start(slots=1, max_length=100)
    return runner.score(TOKENS)


@pytest.mark.parametrize("target", every_target())
def test_float32(case: Case, target: str) -> None:
    """Of the state dict that was written, and of the file as `transformers` reads it."""
    result, tolerance = scored(case.path, target), float32_tolerance(target)
    np.testing.assert_allclose(result, case.in_memory, atol=tolerance)
    np.testing.assert_allclose(result, case.from_file, atol=tolerance)


def test_scaling_makes_a_difference() -> None:
    """Without one, the tests of scaling would prove nothing."""
    plain = logits(llama(), TOKENS)
    for scaling in (LLAMA3_SCALING, LINEAR_SCALING, YARN_SCALING):
        assert np.abs(logits(llama(scaling=scaling), TOKENS) - plain).max() > 0.1


@pytest.fixture(scope="module", params=[Type.F16, Type.Q8_0, Type.Q4_0])
def stored(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    kind = request.param
    path = write_gguf(
        tmp_path_factory.mktemp("stored") / f"{kind.name}.gguf",
        llama(),
        kind,
        exceptions=MIXED if kind == Type.Q4_0 else None,
    )
    return Case(path, logits(llama(), TOKENS), logits(in_transformers(path), TOKENS))


@pytest.mark.parametrize("target", every_target())
def test_any_encoding_decoded_to_float32(stored: Case, target: str) -> None:
    tolerance = float32_tolerance(target)
    np.testing.assert_allclose(scored(stored.path, target), stored.from_file, atol=tolerance)


def test_as_stored_on_torch(stored: Case) -> None:
    np.testing.assert_allclose(scored(stored.path, "torch", "auto"), stored.from_file, atol=1e-4)


def test_as_stored_on_the_cpu(stored: Case) -> None:
    """Exact but for activations in int8, which the tests of the cpu target account for."""
    rounds = stored.path.stem != "F16"
    result = scored(stored.path, "cpu", "auto")
    np.testing.assert_allclose(result, stored.from_file, atol=0.25 if rounds else 1e-4)
