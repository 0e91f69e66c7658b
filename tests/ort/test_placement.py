"""Nodes that a provider has left to the CPU are found, named, and allowed where they are sizes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pipelines.common.errors import TargetError
from pipelines.common.graph.rules import LoweredGraph
from pipelines.common.ort.placement import RECORDED, elsewhere, require_placement, shape_nodes
from pipelines.common.ort.session import CPU, Provider, make_session


def serialized(nodes: list[onnx.NodeProto], **constants: np.ndarray[Any, Any]) -> bytes:
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["a", "b"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return bytes(model.SerializeToString())


def placed(**nodes: list[tuple[str, str]]) -> Any:
    """A session that says where its nodes are: operators and names, by provider."""
    parts = [
        SimpleNamespace(
            ep_name=provider,
            get_nodes=lambda on=on: [SimpleNamespace(op_type=o, name=n) for o, n in on],
        )
        for provider, on in nodes.items()
    ]
    return SimpleNamespace(get_provider_graph_assignment_info=lambda: parts)


def test_a_session_tells_where_its_nodes_are() -> None:
    nodes = [
        helper.make_node("Exp", ["x"], ["e"], name="first"),
        helper.make_node("Neg", ["e"], ["y"], name="second"),
    ]
    provider = Provider(CPU.name, entries=RECORDED)
    session = make_session(LoweredGraph(serialized(nodes), ()), {}, provider)
    assert elsewhere(session, CPU.name) == []
    require_placement(session, CPU.name)
    assert sorted(elsewhere(session, "OtherProvider")) == [("Exp", "first"), ("Neg", "second")]
    with pytest.raises(TargetError, match=r"OtherProvider leaves 2 nodes to the CPU: .*\(first\)"):
        require_placement(session, "OtherProvider")


def test_allowed_nodes_are_let_be() -> None:
    session = placed(Here=[("MatMul", "m")], Cpu=[("Cast", "c1"), ("Cast", "c2")])
    require_placement(session, "Here", {"c1", "c2", "m"})
    with pytest.raises(TargetError) as error:
        require_placement(session, "Here", {"c1"})
    assert str(error.value) == "Here leaves 1 node to the CPU: Cast (c2)"


def test_of_many_nodes_the_first_are_named() -> None:
    session = placed(Cpu=[("Erf", f"e{n}") for n in range(3)] + [("Tan", "")] * 4)
    with pytest.raises(TargetError) as error:
        require_placement(session, "Here")
    assert str(error.value) == (
        "Here leaves 7 nodes to the CPU: Erf (e0), Erf (e1), Erf (e2), Tan, 3 more"
    )


def test_what_computes_with_sizes_is_told_from_what_computes_with_values() -> None:
    """A gather of sizes is one; a gather of rows is none, though its operator is the same."""
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"], name="shape"),
        helper.make_node("Constant", [], ["one"], name="constant", value_ints=[1]),
        helper.make_node("Gather", ["shape", "zero"], ["length"], name="gather of sizes"),
        helper.make_node("Concat", ["length", "one"], ["wanted"], name="concat", axis=0),
        helper.make_node("Gather", ["x", "zero"], ["row"], name="gather of rows"),
        helper.make_node("Expand", ["row", "wanted"], ["y"], name="expand"),
        helper.make_node("Mul", ["one", "zero"], ["unused"], name="of constants"),
    ]
    model = serialized(nodes, zero=np.array([0]))
    assert shape_nodes(model) == {"shape", "gather of sizes", "concat"}
