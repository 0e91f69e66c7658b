"""What is made for Core ML is what its provider takes, as far as that can be told without it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from operator_graphs import Matrix
from tiny_models import open_model

from pipelines.common.decoder.config import DecoderConfig
from pipelines.common.encodings import ENCODINGS, F32, Q4_0
from pipelines.common.encodings.convert import dequantize
from pipelines.common.errors import TargetError
from pipelines.common.graph.build import build
from pipelines.common.graph.lower import lower
from pipelines.common.graph.rules import LoweredGraph
from pipelines.common.importing import import_from
from pipelines.common.program.external import placed, write_tensors
from pipelines.common.program.module_program import ModuleProgram
from pipelines.common.rotary.rope import Rope
from pipelines.common.targets import coreml
from pipelines.common.targets.coreml import CoreMLTarget
from pipelines.common.targets.coreml.layouts import LARGEST, parts, transposed
from pipelines.common.targets.coreml.rules import RULES
from pipelines.common.targets.coreml.runner import LENGTHS, call_length, capacity
from pipelines.llama3 import model as llama3

CONFIG = DecoderConfig(
    vocabulary=40_000,
    context_length=512,
    hidden_size=64,
    intermediate_size=96,
    layers=2,
    heads=4,
    kv_heads=2,
    head_dim=32,
    norm_epsilon=1e-5,
    rope=Rope(32, 500000.0),
)

ROOM = 256


def qwen3() -> ModuleType:
    plugins = Path(__file__).parents[2] / "plugins"
    return import_from(plugins / "qwen3" / "model.py")


@pytest.fixture(scope="module", params=["llama3", "qwen3"])
def graph(request: pytest.FixtureRequest) -> LoweredGraph:
    network = llama3 if request.param == "llama3" else qwen3()
    neutral = build(network.build(CONFIG))
    encodings = {}
    for value in neutral.graph.inputs:
        if value.name is not None and value.name.endswith(".weight"):
            assert value.shape is not None
            encodings[value.name] = Q4_0 if len(value.shape) == 2 else F32
    return lower(neutral, RULES, encodings, "coreml", "float16")


def as_provider_sees_it(graph: LoweredGraph, length: int, folder: Path) -> onnx.ModelProto:
    """With its dimensions fixed, and after what the runtime does before it asks a provider."""
    weights = [weight for weight in graph.weights if not weight.host]
    zeros = (([weight], np.zeros(weight.shape, weight.dtype)) for weight in weights)
    with (folder / "weights.bin").open("wb") as file:
        places = write_tensors(zeros, file)
    (folder / "graph.onnx").write_bytes(placed(graph.model, places, "weights.bin"))
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    sizes = {"batch": 1, "sequence": length, "wanted": 1, "capacity": ROOM, "positions": ROOM}
    for name, size in sizes.items():
        options.add_free_dimension_override_by_name(name, size)
    ort.InferenceSession(folder / "graph.onnx", options, providers=["CPUExecutionProvider"])
    return onnx.load(folder / "optimized.onnx")


def shapes(model: onnx.ModelProto) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Of everything that nodes take and make; a size that is not known is 0."""
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    for value in (*inferred.input, *inferred.value_info, *inferred.output):
        yield value.name, tuple(d.dim_value for d in value.type.tensor_type.shape.dim)
    for tensor in inferred.initializer:
        yield tensor.name, tuple(tensor.dims)


@pytest.mark.parametrize("length", LENGTHS)
def test_provider_is_given_only_what_it_has(
    graph: LoweredGraph, length: int, tmp_path: Path
) -> None:
    model = as_provider_sees_it(graph, length, tmp_path)
    coreml.CHECK(graph)
    coreml.CHECK(replace(graph, model=model.SerializeToString()))
    operators = {node.op_type for node in model.graph.node}
    assert not operators & {"Gather", "GatherND", "Where"}  # which came late
    assert not {node.domain for node in model.graph.node} - {""}
    known = dict(shapes(model))
    assert {output for node in model.graph.node for output in node.output} <= known.keys()
    for name, shape in known.items():
        assert len(shape) <= 5, name
        assert all(0 < size <= LARGEST for size in shape), f"{name}: {shape}"
    assert known["logits"] == (3, 1, 13_344)  # 40,000 columns in equal parts, multiples of 32


def test_weights_are_float16_and_the_embedding_stays_outside(graph: LoweredGraph) -> None:
    model = onnx.load_from_string(graph.model).graph
    assert {weight.dtype for weight in graph.weights if not weight.host} == {"float16"}
    (table,) = [weight for weight in graph.weights if weight.host]
    assert (table.parameter, table.encoding) == ("embedding.weight", "q4_0")
    assert table.shape == (40_000, 2 * 18)  # as stored
    assert "embedding.weight.tokens" in {value.name for value in model.input}
    halves = [value for value in model.input if value.name.startswith(("key.", "value."))]
    assert {value.type.tensor_type.elem_type for value in halves} == {onnx.TensorProto.FLOAT16}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_matrices_are_transposed(encoding: str) -> None:
    matrix = Matrix.random(encoding, 300, 256)
    made = transposed(matrix.encoding, matrix.bytes)
    assert made.shape == (1, 256, 300)
    expected = dequantize(matrix.encoding, matrix.bytes).astype(np.float16).T
    np.testing.assert_array_equal(made[0], expected)


@pytest.mark.parametrize("rows", [LARGEST, LARGEST + 1, 40_000, 5 * LARGEST])
def test_wide_matrices_fall_into_equal_parts(rows: int) -> None:
    matrix = Matrix.random("q8_0", rows, 64)
    made = transposed(matrix.encoding, matrix.bytes)
    count, columns = parts(rows)
    assert made.shape == (count, 64, columns)
    assert columns <= LARGEST
    joined = np.concatenate([*made], axis=1)
    expected = dequantize(matrix.encoding, matrix.bytes).astype(np.float16).T
    np.testing.assert_array_equal(joined[:, :rows], expected)
    assert not joined[:, rows:].any()


@pytest.mark.parametrize("tokens", [1, 2, 16, 17, 33, 128, 129, 300, 1000])
def test_calls_cover_a_prompt_with_little_padding(tokens: int) -> None:
    left, calls = tokens, []
    while left > 0:
        calls.append(call_length(left))
        left -= calls[-1]
    assert set(calls) <= set(LENGTHS)
    assert -left < calls[-1]  # the last call has a token at least
    assert len(calls) <= tokens // max(LENGTHS) + 2
    assert sum(calls) < 4 * tokens or calls == [16]


def test_room_takes_few_sizes() -> None:
    rooms = {capacity(length) for length in range(1, 4097)}
    assert rooms == {256, 512, 1024, 2048, 4096}
    assert all(capacity(length) >= length for length in (1, 256, 257, 4096, 9999))


@pytest.mark.parametrize(
    ("change", "widest"),
    [
        ({"intermediate_size": 28_672}, "28672"),
        ({"hidden_size": 20_480}, "20480"),
        ({"heads": 256, "head_dim": 128}, "32768"),
    ],
)
def test_dimension_that_is_too_large(change: dict[str, int], widest: str) -> None:
    opened = open_model(None, target="coreml")
    assert isinstance(opened.program, ModuleProgram)
    network = llama3.build(dataclasses.replace(opened.config, **change))
    program = dataclasses.replace(opened.program, network=network)
    deployment = dataclasses.replace(opened, program=program).deployment(slots=1, max_length=64)
    with pytest.raises(TargetError) as error:
        CoreMLTarget().lower(deployment)
    message = str(error.value)
    assert "\n" not in message
    for what in (widest, "coreml", str(LARGEST)):
        assert what in message
