"""Each rule of the cpu target against the operator's reference."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from operator_graphs import Matrix, Operator, compute, lowered, quantized_activations

from pipelines.common import ops
from pipelines.common.encodings import BLOCKS, FLOATS, WITH_OFFSETS, WITHOUT_OFFSETS
from pipelines.common.graph.rules import Rule
from pipelines.common.ort import layouts
from pipelines.common.targets.cpu.rules import RULES

Array = NDArray[Any]

ROWS, COLUMNS = 48, 512

# Elsewhere the runtime quantizes activations in ways of its own.
X86 = platform.machine() in ("x86_64", "AMD64")


def activations(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


def relative_error(result: Array, expected: Array) -> float:
    return float(np.abs(result - expected).max() / np.abs(expected).max())


def product(tmp_path: Path, x: Array, matrix: Matrix) -> Array:
    inputs, weights = {"x": x}, {"weight": matrix}
    operator = Operator("Linear", ["x", "weight"], {"y": ("a", "b", ROWS)})
    graph = lowered([operator], inputs, ["y"], weights)
    return compute(tmp_path, graph, inputs, weights)[0]


@pytest.mark.parametrize("tokens", [1, 2, 5, 33])
@pytest.mark.parametrize("encoding", ["f32", "f16", "bf16"])
def test_product_with_floats(tmp_path: Path, encoding: str, tokens: int) -> None:
    matrix, x = Matrix.random(encoding, ROWS, COLUMNS), activations(1, tokens, COLUMNS)
    assert relative_error(product(tmp_path, x, matrix), x @ matrix.values.T) < 1e-5


@pytest.mark.skipif(not X86, reason="the recipe is that of ONNX Runtime's x86 kernels")
@pytest.mark.parametrize("tokens", [1, 2, 5, 33])
@pytest.mark.parametrize("encoding", BLOCKS)
def test_product_with_blocks_is_exact_but_for_int8_activations(
    tmp_path: Path, encoding: str, tokens: int
) -> None:
    matrix, x = Matrix.random(encoding, ROWS, COLUMNS), activations(1, tokens, COLUMNS)
    x[0, 0, :32] = 0  # a block without a scale
    weight, expected = matrix.values.astype(np.float64), np.zeros(())
    form = matrix.encoding.coded
    assert form is not None
    if form.offsets is not None:
        # Only the part with codes is computed with int8; the offset is added in float32.
        groups = layouts.offsets(matrix.encoding, matrix.bytes).astype(np.float64)
        offsets = np.repeat(groups, form.group, axis=1)
        weight, expected = weight - offsets, x.astype(np.float64) @ offsets.T
    block = form.group
    expected = expected + quantized_activations(x, block) @ weight.T
    assert relative_error(product(tmp_path, x, matrix), expected) < 1e-5


@pytest.mark.parametrize("encoding", BLOCKS)
def test_product_with_blocks_is_close_to_float32(tmp_path: Path, encoding: str) -> None:
    matrix, x = Matrix.random(encoding, ROWS, COLUMNS), activations(2, 7, COLUMNS)
    assert relative_error(product(tmp_path, x, matrix), x @ matrix.values.T) < 0.02


@pytest.mark.parametrize("encoding", [*FLOATS, *WITHOUT_OFFSETS])
def test_rows(tmp_path: Path, encoding: str) -> None:
    """Looked-up rows are exact in every encoding, the first and the last included."""
    assert_rows(tmp_path, encoding, atol=0)


@pytest.mark.parametrize("encoding", WITH_OFFSETS)
def test_rows_with_offsets(tmp_path: Path, encoding: str) -> None:
    assert_rows(tmp_path, encoding, atol=2e-6)


def assert_rows(tmp_path: Path, encoding: str, atol: float) -> None:
    matrix, tokens = Matrix.random(encoding, ROWS, COLUMNS), np.array([[0, 47, 5], [5, 1, 46]])
    inputs, weights = {"tokens": tokens}, {"weight": matrix}
    operator = Operator("Embedding", ["tokens", "weight"], {"y": ("a", "b", COLUMNS)})
    graph = lowered([operator], inputs, ["y"], weights)
    (result,) = compute(tmp_path, graph, inputs, weights)
    np.testing.assert_allclose(result, matrix.values[tokens], rtol=0, atol=atol)


def test_tied_embedding(tmp_path: Path) -> None:
    """One matrix, looked up by row and multiplied."""
    matrix, tokens = Matrix.random("q6_k", ROWS, COLUMNS), np.array([[3, 7]])
    inputs, weights = {"tokens": tokens}, {"embedding": matrix, "head": matrix}
    operators = [
        Operator("Embedding", ["tokens", "embedding"], {"x": ("a", "b", COLUMNS)}),
        Operator("Linear", ["x", "head"], {"y": ("a", "b", ROWS)}),
    ]
    x, y = compute(tmp_path, lowered(operators, inputs, ["x", "y"], weights), inputs, weights)
    np.testing.assert_array_equal(x, matrix.values[tokens])
    assert relative_error(y, x @ matrix.values.T) < 0.02


def test_rms_norm(tmp_path: Path) -> None:
    """A weight that scales, and an epsilon that is not negligible."""
    x, matrix = activations(2, 3, 64), Matrix.random("f32", 1, 64)
    inputs, weights = {"x": x}, {"norm": matrix}
    operator = Operator("RMSNorm", ["x", "norm"], {"y": ("a", "b", 64)}, {"epsilon": 0.5})
    (result,) = compute(tmp_path, lowered([operator], inputs, ["y"], weights), inputs, weights)
    expected = ops.rms_norm(torch.from_numpy(x), torch.from_numpy(matrix.values[0]), 0.5)
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)


def test_silu(tmp_path: Path) -> None:
    inputs = {"x": np.linspace(-50, 50, 303, dtype=np.float32).reshape(1, 3, 101)}
    graph = lowered([Operator("SiLU", ["x"], {"y": ("a", "b", 101)})], inputs, ["y"])
    (result,) = compute(tmp_path, graph, inputs)
    expected = ops.silu(torch.from_numpy(inputs["x"]))
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)


HEADS, KV_HEADS, HEAD_DIM, CAPACITY = 6, 2, 16, 12


def rotary_tables(head_dim: int = HEAD_DIM) -> tuple[Array, Array]:
    angle = np.arange(CAPACITY, dtype=np.float32)[:, None] * np.float32(10) ** -np.linspace(
        0, 2, head_dim // 2, dtype=np.float32
    )
    return np.cos(angle), np.sin(angle)


@pytest.mark.parametrize("interleaved", [0, 1])
def test_rope_by_itself(tmp_path: Path, interleaved: int) -> None:
    x, past = activations(2, 3, HEADS * HEAD_DIM), np.array([0, 7], np.int32)
    cos, sin = rotary_tables()
    inputs = {"x": x, "past": past, "cos": cos, "sin": sin}
    attributes = {"head_dim": HEAD_DIM, "interleaved": interleaved}
    operator = Operator("RoPE", list(inputs), {"y": ("a", "b", HEADS * HEAD_DIM)}, attributes)
    graph = lowered([operator], inputs, ["y"])
    (result,) = compute(tmp_path, graph, inputs)
    expected = ops.rope(*map(torch.from_numpy, inputs.values()), HEAD_DIM, interleaved)
    np.testing.assert_allclose(result, expected, atol=1e-5)


def attention_inputs(
    head_dim: int, sequence: int, past: Sequence[int], total: Sequence[int]
) -> dict[str, Array]:
    batch = len(past)
    return {
        "query": activations(batch, sequence, HEADS * head_dim),
        "key": activations(batch, sequence, KV_HEADS * head_dim)[::-1].copy(),
        "value": activations(batch, sequence, KV_HEADS * head_dim),
        "past_key": activations(batch, KV_HEADS, CAPACITY, head_dim),
        "past_value": activations(batch, KV_HEADS, CAPACITY, head_dim)[::-1].copy(),
        "past": np.array(past, np.int32),
        "total": np.array(total, np.int32),
    }


CASES = pytest.mark.parametrize(
    ("sequence", "past", "total"),
    [
        (5, [0, 0], [5, 5]),
        (1, [4, 9, 0], [5, 10, 1]),
        (4, [6], [10]),
        (4, [0, 0], [2, 4]),
        (CAPACITY, [0], [CAPACITY]),
    ],
    ids=["prompt", "step", "on top", "padded", "full"],
)


@CASES
@pytest.mark.parametrize("rules", [RULES, RULES[::-1]], ids=["fused", "by themselves"])
@pytest.mark.parametrize("interleaved", [0, 1])
def test_rope_and_attention(
    tmp_path: Path,
    rules: Sequence[Rule],
    interleaved: int,
    sequence: int,
    past: Sequence[int],
    total: Sequence[int],
) -> None:
    """Reversed, the rules replace each operator before the fusion comes to see them."""
    kinds = check_attention(tmp_path, rules, HEAD_DIM, interleaved, sequence, past, total)
    assert ("RotaryEmbedding" in kinds) == (rules is not RULES)


@CASES
@pytest.mark.parametrize("head_dim", [2, 6, 8, 10, 20, 24, 36, 40, 80, 96, 100, 128])
def test_heads_of_any_size(
    tmp_path: Path, head_dim: int, sequence: int, past: Sequence[int], total: Sequence[int]
) -> None:
    """GroupQueryAttention takes multiples of 8, with rotation of 16; others go without it."""
    kinds = check_attention(tmp_path, RULES, head_dim, 1, sequence, past, total)
    assert ("GroupQueryAttention" in kinds) == (head_dim % 8 == 0)
    assert ("RotaryEmbedding" in kinds) == (head_dim % 16 != 0)


def check_attention(
    tmp_path: Path,
    rules: Sequence[Rule],
    head_dim: int,
    interleaved: int,
    sequence: int,
    past: Sequence[int],
    total: Sequence[int],
) -> set[str]:
    """Compares attention over rotated heads with the reference; returns what it is made of."""
    cos, sin = rotary_tables(head_dim)
    inputs = {**attention_inputs(head_dim, sequence, past, total), "cos": cos, "sin": sin}
    rotation = {"head_dim": head_dim, "interleaved": interleaved}
    tables = ["past", "cos", "sin"]
    state = ["past_key", "past_value", "past", "total"]
    new_state = ("a", KV_HEADS, "c", head_dim)
    results = {
        "mixed": ("a", "b", HEADS * head_dim),
        "new_key": new_state,
        "new_value": new_state,
    }
    operators = [
        Operator("RoPE", ["query", *tables], {"q": ("a", "b", HEADS * head_dim)}, rotation),
        Operator("RoPE", ["key", *tables], {"k": ("a", "b", KV_HEADS * head_dim)}, rotation),
        Operator(
            "Attention",
            ["q", "k", "value", *state],
            results,
            {"head_dim": head_dim, "scale": 0.3},
        ),
    ]
    graph = lowered(operators, inputs, [*results], rules=rules)

    t = {name: torch.from_numpy(value) for name, value in inputs.items()}
    q, k = (
        ops.rope(t[x], *(t[y] for y in tables), head_dim, interleaved) for x in ("query", "key")
    )
    expected = ops.attention(q, k, t["value"], *(t[name] for name in state), head_dim, 0.3)
    result = compute(tmp_path, graph, inputs)
    for row, (start, stop) in enumerate(zip(past, total, strict=True)):
        np.testing.assert_allclose(
            result[0][row, : stop - start], expected[0][row, : stop - start], atol=1e-5
        )
        for half in (1, 2):
            np.testing.assert_allclose(
                result[half][row, :, :stop], expected[half][row, :, :stop], atol=1e-5
            )
    return {node.op_type for node in onnx.load_from_string(graph.model).graph.node}
