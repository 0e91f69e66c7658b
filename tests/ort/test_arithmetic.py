"""Operators in plain arithmetic against the torch references."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from numpy.typing import NDArray
from operator_graphs import Array, Matrix, Operator, compute, lowered, stored

from pipelines.common import ops
from pipelines.common.encodings import F32
from pipelines.common.graph import patterns
from pipelines.common.graph.rules import LoweredGraph, Rule
from pipelines.common.ort import arithmetic
from pipelines.common.program.external import placed, write_tensors
from pipelines.common.program.tensors import make_tensors

RULES = (
    Rule("norm", patterns.rms_norm, arithmetic.rms_norm),
    Rule("silu", patterns.silu, arithmetic.silu),
    Rule("select", patterns.select, arithmetic.select),
    Rule("rope", patterns.rope, arithmetic.rope),
    Rule("attention", patterns.attention, arithmetic.attention),
)

PLAIN = {
    *("Add", "Cast", "Concat", "Constant", "Div", "MatMul", "Mul", "ReduceMean", "Reshape"),
    *("Sigmoid", "Softmax", "Sqrt", "Transpose"),
}

HEAD_DIM, KV_HEADS, GROUP, SEQUENCE, CAPACITY = 8, 2, 3, 5, 32

PAST = np.array([0, 9, 30], np.int32)
LENGTHS = np.array([3, 5, 2], np.int32)
"""Of each row: a new one, one without padding, and one whose padding is beyond the capacity."""


def random(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def tables() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    angles = np.outer(np.arange(CAPACITY), 0.5 ** np.arange(HEAD_DIM // 2)).astype(np.float32)
    return np.cos(angles), np.sin(angles)


def named(cos: Array, sin: Array) -> dict[str, Array]:
    return {"cos": cos, "sin": sin}


def feeds(graph: LoweredGraph, dtype: type = np.float32) -> dict[str, Array]:
    """For the rows of `PAST` and `LENGTHS`."""
    names = {value.name for value in onnx.load_from_string(graph.model).graph.input}
    wanted = np.stack([LENGTHS - 1, [0, 2, 0]], axis=1)
    return arithmetic.feeds(
        names, PAST, LENGTHS, SEQUENCE, CAPACITY, wanted, named(*tables()), dtype=dtype
    )


def operators(graph: LoweredGraph) -> set[str]:
    return {node.op_type for node in onnx.load_from_string(graph.model).graph.node}


@pytest.mark.parametrize("interleaved", [0, 1])
def test_rope(tmp_path: Path, interleaved: int) -> None:
    x = random(3, SEQUENCE, KV_HEADS * HEAD_DIM)
    cos, sin = tables()
    inputs = {"x": x, "past": PAST, "cos": cos, "sin": sin}
    attributes = {"head_dim": HEAD_DIM, "interleaved": interleaved}
    rope = Operator("RoPE", list(inputs), {"y": ("b", "s", x.shape[2])}, attributes)
    graph = lowered([rope], inputs, ["y"], rules=RULES)
    assert operators(graph) <= PLAIN
    (y,) = compute(tmp_path, graph, {**inputs, **feeds(graph)})
    longer = [torch.from_numpy(np.pad(table, ((0, 8), (0, 0)))) for table in (cos, sin)]
    expected = ops.rope(
        torch.from_numpy(x), torch.from_numpy(PAST), *longer, HEAD_DIM, interleaved
    ).numpy()
    for row, length in enumerate(LENGTHS):
        np.testing.assert_allclose(y[row, :length], expected[row, :length], atol=1e-6)


def attention_inputs(value_dim: int = HEAD_DIM) -> dict[str, Array]:
    width = KV_HEADS * HEAD_DIM
    state = (3, KV_HEADS, CAPACITY)
    return {
        "query": random(3, SEQUENCE, GROUP * width, seed=1),
        "key": random(3, SEQUENCE, width, seed=2),
        "value": random(3, SEQUENCE, KV_HEADS * value_dim, seed=3),
        "past_key": random(*state, HEAD_DIM, seed=4),
        "past_value": random(*state, value_dim, seed=5),
        "past": PAST,
        "total": PAST + LENGTHS,
    }


def attention_graph(inputs: Mapping[str, Array]) -> LoweredGraph:
    value_dim = inputs["past_value"].shape[-1]
    outputs = {
        "mixed": ("b", "s", GROUP * KV_HEADS * value_dim),
        "new_past_key": ("b", KV_HEADS, "c", HEAD_DIM),
        "new_past_value": ("b", KV_HEADS, "c", value_dim),
    }
    attributes = {"head_dim": HEAD_DIM, "scale": HEAD_DIM**-0.5}
    if value_dim != HEAD_DIM:
        attributes["value_dim"] = value_dim
    attention = Operator("Attention", list(inputs), outputs, attributes)
    return lowered([attention], inputs, list(outputs), rules=RULES)


@pytest.mark.parametrize("value_dim", [HEAD_DIM, 3, 24])
def test_attention_of_ragged_rows(tmp_path: Path, value_dim: int) -> None:
    inputs = attention_inputs(value_dim)
    graph = attention_graph(inputs)
    assert operators(graph) <= PLAIN
    mixed, new_key, new_value = compute(tmp_path, graph, {**inputs, **feeds(graph)})
    tensors = [torch.from_numpy(array) for array in inputs.values()]
    expected, keys, values = ops.attention(
        *tensors, HEAD_DIM, HEAD_DIM**-0.5, value_dim=0 if value_dim == HEAD_DIM else value_dim
    )
    # To the bit: the state holds what was computed, and padding leaves what was there.
    np.testing.assert_array_equal(new_key, keys.numpy())
    np.testing.assert_array_equal(new_value, values.numpy())
    for row, length in enumerate(LENGTHS):
        np.testing.assert_allclose(mixed[row, :length], expected[row, :length], atol=1e-5)


def test_what_stands_behind_a_row_has_no_say(tmp_path: Path) -> None:
    inputs = attention_inputs()
    graph = attention_graph(inputs)
    first = compute(tmp_path, graph, {**inputs, **feeds(graph)})[0]
    for name in ("past_key", "past_value"):
        for row, past in enumerate(PAST):
            inputs[name][row, :, past:] = 100
    second = compute(tmp_path, graph, {**inputs, **feeds(graph)})[0]
    for row, length in enumerate(LENGTHS):
        np.testing.assert_array_equal(first[row, :length], second[row, :length])


def test_rows_without_tokens_stay_finite_and_write_nothing(tmp_path: Path) -> None:
    inputs = attention_inputs()
    graph = attention_graph(inputs)
    none = np.zeros(3, np.int32)
    fed = arithmetic.feeds(
        ("keep", "place", "mask"),
        none,
        none,
        SEQUENCE,
        CAPACITY,
        none[:, None],
        named(*tables()),
        dtype=np.float32,
    )
    mixed, new_key, _ = compute(tmp_path, graph, {**inputs, **fed})
    assert np.isfinite(mixed).all()
    np.testing.assert_array_equal(new_key, inputs["past_key"])


def test_select(tmp_path: Path) -> None:
    x = random(3, SEQUENCE, 4)
    inputs: dict[str, Array] = {"x": x, "wanted": np.zeros((3, 2), np.int64)}
    select = Operator("Select", list(inputs), {"y": ("b", "w", 4)})
    graph = lowered([select], inputs, ["y"], rules=RULES)
    assert operators(graph) <= PLAIN
    (y,) = compute(tmp_path, graph, {**inputs, **feeds(graph)})
    rows = np.arange(3)
    np.testing.assert_array_equal(y[:, 0], x[rows, LENGTHS - 1])
    np.testing.assert_array_equal(y[:, 1], x[rows, [0, 2, 0]])


def test_silu(tmp_path: Path) -> None:
    x = random(2, 3, 4) * 8
    graph = lowered([Operator("SiLU", ["x"], {"y": ("b", "s", 4)})], {"x": x}, ["y"], rules=RULES)
    assert operators(graph) <= PLAIN
    (y,) = compute(tmp_path, graph, {"x": x})
    np.testing.assert_allclose(y, ops.silu(torch.from_numpy(x)).numpy(), rtol=1e-5, atol=1e-6)


def compute_from_file(
    tmp_path: Path, graph: LoweredGraph, inputs: Mapping[str, Array], weights: Mapping[str, Matrix]
) -> list[Array]:
    """Runs a graph whose weights the runtime reads itself: it casts those in float16."""
    made = make_tensors(stored(tmp_path / "weights.gguf", weights), graph.weights, {})
    with (tmp_path / "weights.bin").open("wb") as file:
        places = write_tensors(made, file)
    path = tmp_path / "graph.onnx"
    path.write_bytes(placed(graph.model, places, "weights.bin"))
    return ort.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, dict(inputs))


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-6), ("float16", 2e-3)])
@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_rms_norm_of_small_and_large_values(
    tmp_path: Path, dtype: str, tolerance: float, size: float
) -> None:
    """Squares of a thousand are beyond float16, and those of a thousandth below it."""
    x = (random(2, 3, 64) * size).astype(dtype)
    scale = Matrix(F32, random(1, 64, seed=1).view(np.uint8))
    epsilon = 1e-6
    norm = Operator("RMSNorm", ["x", "scale"], {"logits": ("b", "s", 64)}, {"epsilon": epsilon})
    weights = {"scale": scale}
    graph = lowered([norm], {"x": x}, ["logits"], weights, RULES, activations=dtype)
    assert operators(graph) <= PLAIN
    (y,) = compute_from_file(tmp_path, graph, {"x": x}, weights)
    weight = torch.from_numpy(scale.values)
    expected = ops.rms_norm(torch.from_numpy(x).float(), weight, epsilon).numpy()
    np.testing.assert_allclose(y, expected, rtol=tolerance, atol=1e-5)
