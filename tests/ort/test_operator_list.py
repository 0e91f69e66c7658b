"""A graph is held against what a provider has, by operator, version and type."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from onnx import NodeProto, TensorProto, helper

from pipelines.common.ort.operator_list import OperatorList

HALF, FLOAT, INT64 = TensorProto.FLOAT16, TensorProto.FLOAT, TensorProto.INT64


def listed(tmp_path: Path, **operators: Any) -> OperatorList:
    path = tmp_path / "operators.json"
    path.write_text(json.dumps({"source": "a document", "operators": operators}))
    return OperatorList.read(path)


def model(*nodes: NodeProto, opset: int = 20, **inputs: int) -> bytes:
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(name, kind, None) for name, kind in inputs.items()],
        [helper.make_tensor_value_info("y", FLOAT, None)],
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return bytes(helper.make_model(graph, opset_imports=opsets).SerializeToString())


def node(operator: str, inputs: str, output: str = "y", **attributes: Any) -> NodeProto:
    return helper.make_node(operator, inputs.split(), [output], name=operator.lower(), **attributes)


def test_operators_with_notes_are_taken_in_every_version_and_type(tmp_path: Path) -> None:
    known = listed(tmp_path, Exp="", Neg="only sometimes")
    assert known.source == "a document"
    assert known.lacks(model(node("Exp", "x", "e"), node("Neg", "e"), x=HALF)) == []
    assert known.lacks(model(node("Abs", "x"), x=FLOAT)) == ["abs: Abs-13 (T float)"]


@pytest.mark.parametrize(("opset", "taken"), [(12, False), (13, True), (17, True), (18, False)])
def test_versions(tmp_path: Path, opset: int, taken: bool) -> None:
    """Split has versions 11, 13 and 18."""
    known = listed(tmp_path, Split=[{"since": 13, "until": 17, "types": {}}])
    assert (known.lacks(model(node("Split", "x"), opset=opset, x=FLOAT)) == []) == taken


def test_types_follow_the_graph(tmp_path: Path) -> None:
    """Through casts, constants, sizes, and operators of ONNX Runtime."""
    halves = [{"since": 1, "types": {"T": "float16"}}]
    known = listed(
        tmp_path,
        Add=halves,
        Exp=[{"since": 1, "types": {"T": "float"}}, *halves],
        Neg=[{"since": 1, "types": {"T": "int64"}}],
        Cast="",
        Shape="",
        **{"com.microsoft.QuickGelu": halves},
    )
    gelu = node("QuickGelu", "half", "activated", domain="com.microsoft")
    nodes = [
        node("Cast", "x", "half", to=HALF),
        gelu,
        node("Add", "activated half", "sum"),
        node("Shape", "sum", "sizes"),
        node("Neg", "sizes", "less"),
        node("Constant", "", "one", value_float=1.0),
        node("Exp", "one", "y"),
    ]
    assert known.lacks(model(*nodes, x=FLOAT)) == []
    nodes[0] = node("Identity", "x", "half")
    assert known.lacks(model(*nodes, x=FLOAT)) == [
        "identity: Identity-19 (V float)",
        "quickgelu: com.microsoft.QuickGelu-1 (T float)",
        "add: Add-14 (T float)",
    ]


def test_types_that_do_not_go_together(tmp_path: Path) -> None:
    known = listed(tmp_path, Add="")
    with pytest.raises(ValueError, match=r"add: Add of float16 and of float \(z\)"):
        known.lacks(model(node("Add", "x z"), x=HALF, z=FLOAT))
