"""Heads whose values are of another width than their keys, on every target."""

from __future__ import annotations

import numpy as np
import pytest
import transformers
from numpy.typing import NDArray

from pipelines.common.encodings import ENCODINGS
from pipelines.testing import (
    NATIVE_CPU,
    STAND_INS,
    STOCK_CPU,
    Backend,
    RandomWeights,
    Subject,
    check_batches,
    check_export,
    check_file,
    check_logits,
    check_steps,
    check_twin,
    twin_numbers,
)

HEADS, KV_HEADS, WIDTH = 4, 2, 16

NARROWER, WIDER = (
    Subject("llama3", random=RandomWeights(3, {"value_dim": value_dim})) for value_dim in (8, 24)
)


def padded(name: str, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """A network of values as wide as keys that computes the same: what they lack is zero."""
    if name.endswith("attn_v.weight"):
        heads = values.reshape(KV_HEADS, -1, values.shape[-1])
        rest = ((0, 0), (0, WIDTH - heads.shape[1]), (0, 0))
        return np.pad(heads, rest).reshape(KV_HEADS * WIDTH, -1)
    if name.endswith("attn_output.weight"):
        heads = values.reshape(len(values), HEADS, -1)
        return np.pad(heads, ((0, 0), (0, 0), (0, WIDTH - heads.shape[2]))).reshape(len(values), -1)
    return values


def test_logits_are_those_of_transformers() -> None:
    config = transformers.LlamaConfig(**twin_numbers(NARROWER))
    check_twin(NARROWER, transformers.LlamaForCausalLM(config), values=padded, allowed=1e-5)


@pytest.mark.parametrize("subject", [NARROWER, WIDER], ids=["narrower", "wider"])
@pytest.mark.parametrize("backend", [NATIVE_CPU, STOCK_CPU, *STAND_INS], ids=lambda b: b.name)
def test_every_target(subject: Subject, backend: Backend) -> None:
    check_logits(subject, backend)
    check_steps(subject, backend)
    check_batches(subject, backend)


def test_files_and_folders() -> None:
    check_file(WIDER)
    check_export(WIDER)


@pytest.mark.parametrize(
    ("encoding", "activations"), [("q8_0", "float16"), ("f16", "float16"), ("bf16", "bfloat16")]
)
def test_a_graph_for_cuda(encoding: str, activations: str) -> None:
    """Its provider has a kernel for every node."""
    model = WIDER.varied(encoding=ENCODINGS[encoding]).open("cuda", "auto")
    graph = model.target.lower(model.deployment(slots=1, max_length=64))
    assert graph.activations == activations
    assert "attention in arithmetic" in {taken.rule for taken in graph.taken}


def test_what_is_kept_of_a_token() -> None:
    model = WIDER.open()
    interface = model.program.interface
    assert interface.token_elements == 2 * KV_HEADS * (WIDTH + 24)
    shapes = interface.state_shapes(3, 64)
    assert shapes["key.0"] == (3, KV_HEADS, 64, WIDTH)
    assert shapes["value.1"] == (3, KV_HEADS, 64, 24)
    graph = model.target.lower(model.deployment(slots=1, max_length=64))
    assert graph.state_bytes == 4 * interface.token_elements
