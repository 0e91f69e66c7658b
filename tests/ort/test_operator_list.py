"""A graph is held against what a provider has, by operator, version and type."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from onnx import FunctionProto, ModelProto, NodeProto, TensorProto, helper

from pipelines.common.errors import LoweringError
from pipelines.common.graph.rules import LoweredGraph, Taken
from pipelines.common.ort.operator_list import check_operators

Refusal: TypeAlias = Callable[..., str]

HALF, FLOAT, INT64 = TensorProto.FLOAT16, TensorProto.FLOAT, TensorProto.INT64

TAKEN = (Taken("package", "rule", "SiLU", 1),)


@pytest.fixture
def refusal(tmp_path: Path) -> Callable[..., str]:
    """Checks a graph against a list; what is said of it, or nothing."""

    def check(graph: ModelProto, *, whole: bool = True, **operators: Any) -> str:
        path = tmp_path / "operators.json"
        path.write_text(json.dumps({"whole": whole, "operators": operators}))
        try:
            lowered = LoweredGraph(graph.SerializeToString(), (), taken=TAKEN)
            check_operators(path, "somewhere", lowered)
        except LoweringError as error:
            return str(error).removeprefix("target somewhere has no kernel for ")
        return ""

    return check


def model(
    *nodes: NodeProto, opset: int = 20, functions: Sequence[FunctionProto] = (), **inputs: int
) -> ModelProto:
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(name, kind, None) for name, kind in inputs.items()],
        [helper.make_tensor_value_info("y", FLOAT, None)],
    )
    versions = {"": opset, "com.microsoft": 1, "own": 1}
    opsets = [helper.make_opsetid(*pair) for pair in versions.items()]
    return helper.make_model(graph, opset_imports=opsets, functions=functions)


def node(operator: str, inputs: str, output: str = "y", **attributes: Any) -> NodeProto:
    name = attributes.pop("name", operator.lower())
    return helper.make_node(operator, inputs.split(), [output], name=name, **attributes)


def test_operators_with_notes_are_taken_in_every_version_and_type(refusal: Refusal) -> None:
    known = {"Exp": "", "Neg": "only sometimes"}
    assert refusal(model(node("Exp", "x", "e"), node("Neg", "e"), x=HALF), **known) == ""
    told = refusal(model(node("Abs", "x"), x=FLOAT), **known)
    assert told == "Abs-13 (T float), node abs (one such node)"


@pytest.mark.parametrize(("opset", "taken"), [(12, False), (13, True), (17, True), (18, False)])
def test_versions(refusal: Refusal, opset: int, taken: bool) -> None:
    """Split has versions 11, 13 and 18."""
    known = {"Split": [{"since": 13, "until": 17, "types": {}}]}
    assert (refusal(model(node("Split", "x"), opset=opset, x=FLOAT), **known) == "") == taken


def test_types_follow_the_graph(refusal: Refusal) -> None:
    """Through casts, constants, and operators of ONNX Runtime; sizes are not on the device."""
    halves = [{"since": 1, "types": {"T": "float16"}}]
    known = {"Add": halves, "Cast": "", "Mul": "", "com.microsoft.QuickGelu": halves}
    nodes = [
        node("Cast", "x", "half", to=HALF),
        node("QuickGelu", "half", "activated", domain="com.microsoft"),
        node("Add", "activated half", "sum"),
        node("Shape", "sum", "sizes"),
        node("Neg", "sizes", "less"),
        node("Constant", "", "one", value_float=1.0),
        node("Exp", "one", "e"),
        node("Mul", "e x", "y"),
    ]
    assert refusal(model(*nodes, x=FLOAT), **known) == ""
    nodes[0] = node("Identity", "x", "half")
    told = refusal(model(*nodes, x=FLOAT), **known)
    assert told == "Identity-19 (V float), node identity (3 such nodes)"
    told = refusal(model(*nodes, x=FLOAT), **known, Identity="")
    assert told.startswith("com.microsoft.QuickGelu-1 (T float), ")


def test_types_that_do_not_go_together(refusal: Refusal) -> None:
    told = refusal(model(node("Add", "x z"), x=HALF, z=FLOAT), Add="")
    assert told == "Add-14 (T float16 and float), node add (one such node)"


def test_a_rule_of_a_package_is_named(refusal: Refusal) -> None:
    told = refusal(model(node("Abs", "x", name="package/rule"), x=FLOAT))
    assert (
        told == "Abs-13 (T float), which rule 'rule' of op package 'package' emits (one such node)"
    )
    told = refusal(model(node("Abs", "x", name="layers/abs"), x=FLOAT))
    assert "node layers/abs (one" in told
    assert refusal(model(node("Anything", "x"), x=FLOAT)).startswith("Anything, node")


def test_operators_of_packages_are_their_own_affair(refusal: Refusal) -> None:
    nodes = [node("Unheard", "x", "u", domain="own"), node("Exp", "u")]
    assert refusal(model(*nodes, x=FLOAT), Exp=[{"since": 1, "types": {"T": "float16"}}]) == ""


def test_functions_are_looked_into(refusal: Refusal) -> None:
    body = [node("Cast", "a", "b", to=HALF), node("Sign", "b", "c")]
    function = helper.make_function("own", "F", ["a"], ["c"], body, [helper.make_opsetid("", 13)])
    call = node("F", "x", "f", domain="own", name="package/rule")
    graph = model(call, node("Exp", "f"), functions=[function], x=FLOAT)
    told = refusal(graph, Cast="", Exp="")
    assert told.startswith("Sign-13 (T float16), which rule 'rule' of op package 'package' emits")
    told = refusal(graph, Cast="", Sign="", Exp=[{"since": 1, "types": {"T": "float"}}])
    assert told.startswith("Exp-13 (T float16), node exp (")


def test_what_may_have_a_kernel_all_the_same(refusal: Refusal) -> None:
    """Of a list that is not whole, and what the runtime expands into other operators."""
    assert refusal(model(node("Abs", "x"), x=FLOAT), whole=False) == ""
    assert refusal(model(node("Celu", "x"), x=FLOAT)) == ""
