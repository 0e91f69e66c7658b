"""The neutral graph says what the decoder does, and nothing about a target."""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass

import onnx
import onnx_ir as ir
import pytest

from pipelines.common.decoder.config import DecoderConfig
from pipelines.common.graph.build import build
from pipelines.common.ops import OPERATORS
from pipelines.common.rotary.rope import Rope
from pipelines.llama3 import model


@dataclass(frozen=True)
class Built:
    """A configuration and the graph of it."""

    config: DecoderConfig
    graph: ir.Graph


@pytest.fixture(scope="module", params=["two layers", "three layers"])
def built(request: pytest.FixtureRequest, config: DecoderConfig, neutral: ir.Model) -> Built:
    if request.param == "two layers":
        return Built(config, neutral.graph)
    other = dataclasses.replace(
        config,
        vocabulary=72,
        hidden_size=48,
        layers=3,
        heads=6,
        kv_heads=1,
        head_dim=10,
        rope=Rope(10, 500000.0),
    )
    return Built(other, build(model.build(other)).graph)


def dimensions(value: ir.Value) -> list[int | str | None]:
    assert value.shape is not None
    return [size if isinstance(size, int) else size.value for size in value.shape]


def test_holds_the_operators_that_the_model_is_made_of(built: Built) -> None:
    config, graph = built.config, built.graph
    neutral = Counter(node.op_type for node in graph if node.domain == "pipelines")
    assert neutral == {
        "Embedding": 1,
        "RMSNorm": 2 * config.layers + 1,
        "Linear": 7 * config.layers + 1,
        "RoPE": 2 * config.layers,
        "Attention": config.layers,
        "SiLU": config.layers,
        "Select": 1,
    }
    assert set(neutral) <= set(OPERATORS)


def test_holds_only_standard_operators_besides(built: Built) -> None:
    for node in built.graph:
        assert node.domain == "pipelines" or (node.domain == "" and onnx.defs.has(node.op_type))


def test_weights_are_inputs_under_their_names(built: Built) -> None:
    config, graph = built.config, built.graph
    assert not graph.initializers
    names = [value.name for value in graph.inputs]
    given = [*model.build(config).interface.inputs()]
    assert names[: len(given)] == given
    parameters = model.build(config).parameters()
    weights = {value.name: dimensions(value) for value in graph.inputs[len(given) :]}
    assert weights == {name: list(weight.shape) for name, weight in parameters.items()}


def test_other_inputs_and_outputs_have_named_dimensions(built: Built) -> None:
    config, graph = built.config, built.graph
    state = ["batch", config.kv_heads, "capacity", config.head_dim]
    shapes = {value.name: dimensions(value) for value in [*graph.inputs, *graph.outputs]}
    assert [value.name for value in graph.outputs] == [
        "logits",
        *(f"new_{half}.{layer}" for layer in range(config.layers) for half in ("key", "value")),
    ]
    assert shapes["tokens"] == ["batch", "sequence"]
    assert shapes["past"] == shapes["total"] == ["batch"]
    assert shapes["wanted"] == ["batch", "wanted"]
    assert shapes["cos"] == shapes["sin"] == ["positions", config.head_dim // 2]
    assert shapes["logits"] == ["batch", "wanted", config.vocabulary]
    for half in ("key", "value"):
        for layer in range(config.layers):
            assert shapes[f"{half}.{layer}"] == shapes[f"new_{half}.{layer}"] == state


def test_neutral_operators_know_the_shapes_of_their_results(built: Built) -> None:
    """Rules of later operators ask for them."""
    known = {"batch", "sequence", "wanted", "capacity"}
    for node in built.graph:
        if node.domain == "pipelines":
            for output in node.outputs:
                assert {x for x in dimensions(output) if not isinstance(x, int)} <= known
                assert isinstance(dimensions(output)[-1], int)


def test_attributes_are_the_configuration(built: Built) -> None:
    config, graph = built.config, built.graph
    attention = [node for node in graph if node.op_type == "Attention"]
    for node in attention:
        assert node.attributes["head_dim"].as_int() == config.head_dim
        assert node.attributes["scale"].as_float() == pytest.approx(config.head_dim**-0.5)
    for node in graph:
        if node.op_type == "RMSNorm":
            assert node.attributes["epsilon"].as_float() == pytest.approx(config.norm_epsilon)
        if node.op_type == "RoPE":
            assert node.attributes["interleaved"].as_int() == 1
