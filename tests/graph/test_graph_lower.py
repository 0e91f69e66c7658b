"""Lowering takes rules in order and leaves nothing neutral behind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from pipelines.common.encodings import F32, Q4_0, Q4_1, Q6_K, Q8_0, Encoding
from pipelines.common.errors import LoweringError
from pipelines.common.graph.lower import lower
from pipelines.common.graph.rules import LoweredGraph, Rule
from pipelines.common.targets.cpu.rules import RULES

LAYERS = 2


def copy(model: ir.Model) -> ir.Model:
    """A graph that can be used up."""
    return ir.from_proto(ir.to_proto(model))


def encodings(neutral: ir.Model, matrices: Encoding, **others: Encoding) -> dict[str, Encoding]:
    """All matrices in one encoding but for `others`, told by the beginning of their names."""
    chosen = {}
    for value in neutral.graph.inputs:
        if value.name is not None and value.name.endswith(".weight"):
            assert value.shape is not None
            name = value.name
            chosen[name] = matrices if len(value.shape) == 2 else F32
            for prefix, encoding in others.items():
                if name.startswith(prefix):
                    chosen[name] = encoding
    return chosen


def operators(graph: LoweredGraph) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load_from_string(graph.model).graph.node)


def test_nothing_neutral_is_left(neutral: ir.Model) -> None:
    graph = lower(copy(neutral), RULES, encodings(neutral, F32), "cpu")
    lowered = onnx.load_from_string(graph.model)
    assert {node.domain for node in lowered.graph.node} == {"", "com.microsoft"}
    assert "pipelines" not in {opset.domain for opset in lowered.opset_import}


def test_weights_are_told_apart_by_who_holds_them(neutral: ir.Model) -> None:
    graph = lower(copy(neutral), RULES, encodings(neutral, Q8_0, head=F32), "cpu")
    lowered = onnx.load_from_string(graph.model).graph
    inputs = {value.name for value in lowered.input}
    constants = {tensor.name: tensor for tensor in lowered.initializer}
    assert {weight.name for weight in graph.weights if weight.constant} == set(constants)
    for weight in graph.weights:
        if weight.constant:
            assert tuple(constants[weight.name].dims) == weight.shape
        assert (weight.name in inputs) != weight.constant
    assert not inputs & set(encodings(neutral, F32))  # the parameters themselves are gone
    by_parameter = {weight.parameter for weight in graph.weights}
    assert by_parameter == set(encodings(neutral, F32))


def test_each_encoding_takes_its_own_rule(neutral: ir.Model) -> None:
    mixed = encodings(neutral, Q4_0, head=Q6_K, embedding=Q6_K, **{"layers.1.feed": Q4_1})
    mixed["layers.1.feed_forward_norm.weight"] = F32
    graph = lower(copy(neutral), RULES, mixed, "cpu")
    nodes = onnx.load_from_string(graph.model).graph.node
    products = Counter(
        tuple(a.i for name in ("bits", "block_size") for a in node.attribute if a.name == name)
        for node in nodes
        if node.op_type == "MatMulNBits"
    )
    assert products == {(4, 32): 14, (8, 16): 1}
    assert operators(graph)["FusedMatMul"] == 3  # the offsets of q4_1
    assert operators(graph)["GatherBlockQuantized"] == 1


def without(name: str) -> list[Rule]:
    rules = [rule for rule in RULES if rule.name != name]
    assert len(rules) == len(RULES) - 1
    return rules


@pytest.mark.parametrize(
    ("rules", "encoding", "named"),
    [
        (without("MatMulNBits"), Q4_0, ["Linear", "q4_0", "layers.0.attention", "cpu"]),
        (without("GatherBlockQuantized"), Q8_0, ["Embedding", "q8_0", "embedding.weight", "cpu"]),
        (without("QuickGelu"), F32, ["SiLU", "cpu"]),
        ([], F32, ["cpu"]),
    ],
)
def test_operator_that_no_rule_takes(
    neutral: ir.Model, rules: Sequence[Rule], encoding: Encoding, named: list[str]
) -> None:
    with pytest.raises(LoweringError) as error:
        lower(copy(neutral), rules, encodings(neutral, encoding), "cpu")
    message = str(error.value)
    assert "\n" not in message
    for what in named:
        assert what in message


def rope_of_a_package() -> Rule:
    def pattern(
        op: Any, x: Any, past: Any, cos: Any, sin: Any, head_dim: Any, interleaved: Any
    ) -> Any:
        return op.RoPE(x, past, cos, sin, head_dim=head_dim, interleaved=interleaved)

    def emit(op: Any, x: Any, past: Any, cos: Any, sin: Any, **_: Any) -> Any:
        return op.MyRotation(x, past, cos, sin, _domain="example.package")

    return Rule("MyRotation", pattern, emit)


def test_earlier_rule_wins_over_a_fusion_that_would_swallow_its_operator(
    neutral: ir.Model,
) -> None:
    graph = lower(copy(neutral), (rope_of_a_package(), *RULES), encodings(neutral, F32), "cpu")
    found = operators(graph)
    assert found["MyRotation"] == 2 * LAYERS
    assert found["GroupQueryAttention"] == LAYERS
    attention = [
        node
        for node in onnx.load_from_string(graph.model).graph.node
        if node.op_type == "GroupQueryAttention"
    ]
    rotates = [a.i for node in attention for a in node.attribute if a.name == "do_rotary"]
    assert rotates == [0] * LAYERS


def test_later_rule_gets_what_the_fusion_leaves(neutral: ir.Model) -> None:
    graph = lower(copy(neutral), (*RULES, rope_of_a_package()), encodings(neutral, F32), "cpu")
    assert operators(graph)["MyRotation"] == 0


def test_fusion_takes_several_operators_at_once(neutral: ir.Model) -> None:
    """Gate, up and their product with SiLU in one node, with one tensor a weight."""

    def pattern(op: Any, x: Any, gate: Any, up: Any) -> Any:
        return op.Mul(op.SiLU(op.Linear(x, gate)), op.Linear(x, up))

    def emit(op: Any, x: Any, gate: Any, up: Any) -> Any:
        (rows, columns), encoding = op.shape(gate), op.encoding(gate)
        weights = [op.weight(w, "my layout", (rows, columns), np.int8) for w in (gate, up)]
        return op.GatedProduct(x, *weights, encoding=encoding, _domain="example.package")

    rule = Rule("GatedProduct", pattern, emit, {"gate": ("q4_0",), "up": ("q4_0",)})
    graph = lower(copy(neutral), (rule, *RULES), encodings(neutral, Q4_0), "cpu")
    found = operators(graph)
    assert found["GatedProduct"] == LAYERS
    assert found["QuickGelu"] == found["Mul"] == 0
    mine = [weight for weight in graph.weights if weight.layout == "my layout"]
    assert len(mine) == 2 * LAYERS
    assert mine[0].nbytes == 96 * 64

    mixed = encodings(neutral, Q4_0, **{"layers.0.feed_forward.up": Q8_0})
    graph = lower(copy(neutral), (rule, *RULES), mixed, "cpu")
    assert operators(graph)["GatedProduct"] == LAYERS - 1


def test_a_rule_takes_what_an_earlier_one_has_emitted(neutral: ir.Model) -> None:
    def silu(op: Any, x: Any) -> Any:
        return op.SiLU(x)

    def through_sigmoid(op: Any, x: Any) -> Any:
        return op.Mul(x, op.Sigmoid(x))

    def sigmoid(op: Any, x: Any) -> Any:
        return op.Sigmoid(x)

    def through_tanh(op: Any, x: Any) -> Any:
        half = op.Constant(value_float=0.5)
        return op.Add(op.Mul(op.Tanh(op.Mul(x, half)), half), half)

    rules = [Rule("silu", silu, through_sigmoid), Rule("sigmoid", sigmoid, through_tanh)]
    graph = lower(copy(neutral), [*rules, *RULES], encodings(neutral, F32), "cpu")
    assert operators(graph)["Tanh"] == LAYERS
    assert operators(graph)["Sigmoid"] == 0


def test_equal_inputs_give_equal_bytes(neutral: ir.Model) -> None:
    first, second = (lower(copy(neutral), RULES, encodings(neutral, Q4_0), "cpu") for _ in range(2))
    assert first == second
