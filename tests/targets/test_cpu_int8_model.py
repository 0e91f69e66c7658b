"""Whole models in block encodings, against a reference that rounds activations the same way."""

from __future__ import annotations

import platform
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from operator_graphs import quantized_activations
from tiny_models import (
    eager,
    eager_runner,
    llama,
    open_model,
    random_tokens,
    round_first,
    write_gguf,
)
from torch import Tensor

from pipelines.common.models.model import Model
from pipelines.common.program.runner import Runner
from pipelines.common.targets.torch.runner import TorchRunner

PROMPTS = [random_tokens(8, seed) for seed in range(8)]
BLOCKS = {"q4_0": 32, "q8_0": 32, "q6_k": 16}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_gguf(tmp_path / "model.gguf", llama())


def reference(model: Model) -> TorchRunner:
    """The eager decoder, with what goes into block-encoded matrices rounded to int8."""
    network = eager(model)
    for name, module in network.modules().items():
        block = BLOCKS.get(str(model.program.weights.encodings.get(f"{name}.weight")))
        if block is not None and name != "embedding":
            round_first(module, partial(rounded, block=block))
    return eager_runner(network, 8)


def rounded(x: Tensor, block: int) -> Tensor:
    return torch.from_numpy(quantized_activations(x.numpy(), block)).float()


def scored(runner: Runner) -> NDArray[np.float32]:
    return np.concatenate([runner.score(prompt) for prompt in PROMPTS])


def errors(result: NDArray[np.float32], expected: NDArray[np.float32]) -> NDArray[np.float32]:
    """The largest error of each token, by the spread of the logits."""
    return np.abs(result - expected).max(-1) / expected.std()


@pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"),
    reason="the recipe is that of ONNX Runtime's x86 kernels",
)
@pytest.mark.parametrize("encoding", ["q8_0", "q4_0"])
def test_all_error_is_that_of_int8_activations(path: Path, encoding: str) -> None:
    """Most tokens agree to the last bits.

    Where one sits on the edge of rounding, the two computations may round it to different sides;
    still they stay closer to each other than to float32.
    """
    model = open_model(path, encoding=encoding)
    result = scored(model.start(slots=1, max_length=8))
    same_rounding = scored(reference(model))
    no_rounding = open_model(path, target="torch", encoding=encoding).start(slots=1, max_length=8)
    of_rounding = errors(same_rounding, scored(no_rounding))
    unexplained = errors(result, same_rounding)
    assert np.median(unexplained) < 1e-5
    assert unexplained.max() < of_rounding.max()
    assert of_rounding.max() < 0.2


def test_int8_activations_cost_less_than_four_bit_weights(path: Path) -> None:
    exact, as_q4_0, with_int8 = (
        scored(open_model(path, target=target, encoding=encoding).start(slots=1, max_length=8))
        for target, encoding in (("torch", "float32"), ("torch", "q4_0"), ("cpu", "q4_0"))
    )
    assert np.median(errors(with_int8, as_q4_0)) < 0.25 * np.median(errors(as_q4_0, exact))
