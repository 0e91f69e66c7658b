"""What rules of op packages make of a graph: functions, weights, state, and the record of it."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnxscript import opset20, script, values
from operator_graphs import Matrix, Operator, compute, lowered, stored

from pipelines.common import ops
from pipelines.common.errors import LoweringError, OpPackageError
from pipelines.common.graph import patterns
from pipelines.common.graph.rules import LoweredGraph, LoweredWeight, Rule, Taken
from pipelines.common.ort.layouts import LAYOUTS
from pipelines.common.ort.session import _constant
from pipelines.common.program.package import Layout, LoadedPackage, OpPackage
from pipelines.common.program.tensors import make_tensors, named
from pipelines.common.targets.cpu.rules import RULES

X = np.random.default_rng(0).normal(size=(1, 3, 64)).astype(np.float32)
SILU = [Operator("SiLU", ["x"], {"y": ("a", "b", 64)})]
LINEAR = [Operator("Linear", ["x", "weight"], {"y": ("a", "b", 48)})]

DOMAIN = values.Opset("example.functions", 1)


@script(DOMAIN, default_opset=opset20)
def Sigma(x):  # noqa: N802
    return 1.0 / (1.0 + opset20.Exp(-x))


@script(DOMAIN, default_opset=opset20)
def Swish(x, times: float):  # noqa: N802
    return x * Sigma(x) * times


def package_rule(rule: Rule, name: str = "example") -> Rule:
    return dataclasses.replace(rule, package=name)


def swish(op: Any, x: Any) -> Any:
    return op.call(Swish, x, times=2.0)


def test_a_function_of_functions(tmp_path: Path) -> None:
    graph = lowered(
        SILU, {"x": X}, ["y"], rules=[package_rule(Rule("Swish", patterns.silu, swish))]
    )
    model = onnx.load_from_string(graph.model)
    assert {function.name for function in model.functions} == {"Swish", "Sigma"}
    (result,) = compute(tmp_path, graph, {"x": X})
    np.testing.assert_allclose(result, 2 * ops.silu(torch.from_numpy(X)), atol=1e-6)


def test_later_rules_leave_the_inside_of_functions_alone() -> None:
    """Functions are of standard operators, which fusions look for too."""

    def forbidden(op: Any, _x: Any, _y: Any) -> Any:
        return op.Forbidden(_domain="nowhere")

    rules = [
        Rule("Swish", patterns.silu, swish),
        Rule("Mul", lambda op, x, y: op.Mul(x, y), forbidden),
    ]
    graph = lowered(SILU, {"x": X}, ["y"], rules=rules)
    assert graph.taken == (Taken("", "Swish", "SiLU", 1),)


def test_what_took_what_and_the_names_of_nodes() -> None:
    operators = [*SILU, Operator("SiLU", ["y"], {"z": ("a", "b", 64)})]

    def emit(op: Any, x: Any) -> Any:
        return op.Mul(x, op.Sigmoid(x))

    mine = package_rule(Rule("my rule", patterns.silu, emit))
    graph = lowered(operators, {"x": X}, ["z"], rules=[mine, *RULES])
    assert graph.taken == (Taken("example", "my rule", "SiLU", 2),)
    nodes = onnx.load_from_string(graph.model).graph.node
    assert Counter(node.name.partition("/")[0] for node in nodes) == {"example": 4}
    assert len({node.name for node in nodes}) == 4


def product(layout: str, width: int, dtype: Any = np.uint8) -> Rule:
    """A product with what a layout makes, of which there is one number a column."""

    def emit(op: Any, x: Any, weight: Any) -> Any:
        made = op.weight(weight, layout, (op.shape(weight)[0], width), dtype)
        matrix = op.Cast(made, to=onnx.TensorProto.FLOAT)
        return op.MatMul(x, op.Transpose(matrix, perm=[1, 0]))

    return package_rule(Rule(layout, patterns.linear, emit))


def test_stored_is_the_bytes_of_the_encoding(tmp_path: Path) -> None:
    matrix = Matrix.random("q8_0", 48, 64)
    graph = lowered(LINEAR, {"x": X[..., :1]}, ["y"], {"weight": matrix}, [product("stored", 68)])
    assert graph.weights == (
        LoweredWeight("weight:stored", "weight", "stored", "uint8", (48, 68), True, "q8_0"),
    )
    source = stored(tmp_path / "weights.gguf", {"weight": matrix})
    made = named(make_tensors(source, graph.weights, LAYOUTS))["weight:stored"]
    np.testing.assert_array_equal(made, matrix.bytes)
    assert np.shares_memory(made, source.raw("weight"))
    # Neither does ONNX Runtime take a copy.
    constant = _constant(ort, made)
    assert constant.data_ptr() == source.raw("weight").ctypes.data


def packages(**layouts: Layout) -> list[LoadedPackage]:
    return [LoadedPackage("example", Path(), OpPackage("Example.", layouts=layouts))]


def sums(_encoding: Any, raw: Any) -> Any:
    return raw.sum(-1, keepdims=True, dtype=np.int32)


def made(
    tmp_path: Path, rules: Sequence[Rule], of: Sequence[LoadedPackage]
) -> tuple[LoweredGraph, Any]:
    matrix = Matrix.random("q8_0", 48, 64)
    graph = lowered(LINEAR, {"x": X[..., :1]}, ["y"], {"weight": matrix}, rules)
    source = stored(tmp_path / "weights.gguf", {"weight": matrix})
    (tensor,) = named(make_tensors(source, graph.weights, LAYOUTS, of)).values()
    return graph, tensor


def test_layouts_of_a_package(tmp_path: Path) -> None:
    graph, tensor = made(tmp_path, [product("sums", 1, np.int32)], packages(sums=sums))
    assert [(weight.layout, weight.package) for weight in graph.weights] == [("sums", "example")]
    np.testing.assert_array_equal(tensor, sums(None, Matrix.random("q8_0", 48, 64).bytes))


def test_a_package_may_use_the_layouts_of_the_target_or_its_own_of_that_name(
    tmp_path: Path,
) -> None:
    _, codes = made(tmp_path, [product("codes", 64)], packages())
    _, own = made(tmp_path, [product("codes", 64)], packages(codes=lambda _, raw: raw[:, 4:] * 0))
    assert codes.any()
    assert not own.any()


def test_a_layout_that_nobody_has(tmp_path: Path) -> None:
    with pytest.raises(OpPackageError, match="'example' wants weight as 'sums', a layout that nei"):
        made(tmp_path, [product("sums", 1)], packages())


@pytest.mark.parametrize("width", [2, 4])
def test_a_layout_that_makes_something_else(tmp_path: Path, width: int) -> None:
    """Of another size, or of another type of the same size."""
    with pytest.raises(OpPackageError, match=r"made int32 \[48, 1\] of weight; its rule declares"):
        made(tmp_path, [product("sums", width)], packages(sums=sums))


def test_two_ideas_of_one_weight() -> None:
    rules = [product("stored", 68), product("stored", 17, np.float32)]
    rules[0] = dataclasses.replace(rules[0], encodings={"weight": ("q8_0",)})
    operators = [*LINEAR, Operator("Embedding", ["tokens", "weight"], {"z": ("a", "b", 64)})]

    def rows(op: Any, tokens: Any, weight: Any) -> Any:
        return op.Gather(op.weight(weight, "stored", (48, 17), np.float32), tokens)

    rules[1] = Rule("rows", patterns.embedding, rows)
    inputs = {"x": X[..., :1], "tokens": np.zeros((1, 1), np.int64)}
    with pytest.raises(LoweringError, match=r"wanted as stored in two ways: uint8 \[48, 68\]"):
        lowered(operators, inputs, ["y", "z"], {"weight": Matrix.random("q8_0", 48, 64)}, rules)
