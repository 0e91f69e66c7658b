"""Logits with the native kernels, against `transformers` and references that round alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Type
from numpy.typing import NDArray
from tiny_models import (
    MIXED,
    eager,
    eager_runner,
    in_transformers,
    llama,
    logits,
    open_model,
    random_tokens,
    round_first,
    write_gguf,
)
from torch import Tensor

from pipelines.common.models.model import Model
from pipelines.common.nn import Attention
from pipelines.common.nn.step import Step
from pipelines.common.targets.torch.runner import TorchRunner

TOKENS = random_tokens(100)


def scored(path: Path, encoding: str = "auto", tokens: list[int] = TOKENS) -> NDArray[np.float32]:
    model = open_model(path, encoding=encoding, native_ops=True)
    return model.start(slots=1, max_length=len(tokens)).score(tokens)


@pytest.mark.parametrize("tied", [False, True])
def test_float32(tmp_path: Path, tied: bool) -> None:
    path = write_gguf(tmp_path / "model.gguf", llama(tied=tied))
    np.testing.assert_allclose(scored(path), logits(llama(tied=tied), TOKENS), atol=1e-4)


@pytest.mark.parametrize("kind", [Type.F16, Type.BF16])
def test_half_precision_weights_are_computed_with_exactly(tmp_path: Path, kind: Type) -> None:
    path = write_gguf(tmp_path / "model.gguf", llama(), kind)
    np.testing.assert_allclose(scored(path), logits(in_transformers(path), TOKENS), atol=1e-4)


def reference(model: Model, length: int) -> TorchRunner:
    """The eager decoder with what goes into block-encoded matrices rounded to int8, and the KV
    state rounded to float16.
    """
    network = eager(model)
    for name, module in network.modules().items():
        encoding = str(model.program.weights.encodings.get(f"{name}.weight"))
        if encoding.startswith("q") and name != "embedding":
            round_first(module, rounded)
    for module in network.modules().values():
        if isinstance(module, Attention):
            round_state(module)
    return eager_runner(network, length)


def round_state(attention: Attention) -> None:
    """Rounds keys, once they are rotated, and values to float16."""
    rotate, keys = attention._rotate, attention.key.weight.shape[0]

    def rotate_and_round(x: Tensor, step: Step) -> Tensor:
        rotated = rotate(x, step)
        return rotated.half().float() if x.shape[-1] == keys else rotated

    attention._rotate = rotate_and_round
    value = attention.value.forward
    attention.value.forward = lambda x: value(x).half().float()


def rounded(x: Tensor) -> Tensor:
    """Blocks of 32 in eight bits, symmetric, to the nearest even."""
    blocks = x.unflatten(-1, (-1, 32))
    largest = blocks.abs().amax(-1, keepdim=True)
    codes = torch.round(blocks * torch.where(largest > 0, 127 / largest, 0))
    return (codes * (largest / 127)).flatten(-2)


@pytest.mark.parametrize("kind", ["Q8_0", "Q5_0", "Q4_1", "mixed"])
def test_all_error_of_blocks_is_that_of_int8_activations(tmp_path: Path, kind: str) -> None:
    """Most tokens agree to the last bits.

    Where a number sits on the edge of rounding, the two computations may round it to different
    sides; still they stay closer to each other than to float32. Prompts are short, so that few do.
    """
    mixed = kind == "mixed"
    path = write_gguf(
        tmp_path / "model.gguf",
        llama(),
        Type.Q4_0 if mixed else Type[kind],
        exceptions=MIXED if mixed else None,
    )
    model = open_model(path, encoding="auto", native_ops=True)
    runner, same = model.start(slots=1, max_length=8), reference(model, 8)
    exact = open_model(path, target="torch", encoding="auto").start(slots=1, max_length=8)
    prompts = [random_tokens(8, seed) for seed in range(8)]
    result, expected, unrounded = (
        np.concatenate([each.score(prompt) for prompt in prompts]) for each in (runner, same, exact)
    )

    def errors(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.abs(a - b).max(-1) / unrounded.std()

    assert np.median(errors(result, expected)) < 1e-4
    assert errors(result, expected).max() < errors(expected, unrounded).max()
