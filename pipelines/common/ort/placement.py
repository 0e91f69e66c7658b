"""Which of a session's nodes run on the provider that was asked for, and which fell to the CPU.

Source: `OrtApi::Session_GetEpGraphAssignmentInfo` in onnxruntime/core/session/onnxruntime_c_api.h.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from pipelines.common.errors import TargetError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

RECORDED = {"session.record_ep_graph_assignment_info": "1"}
"""Entries of the configuration of a session that can be asked."""

_NAMED = 4


def elsewhere(session: InferenceSession, provider: str) -> list[tuple[str, str]]:
    """The nodes that are not on a provider.

    Args:
        session: Made with `RECORDED`.
        provider: What the runtime calls it.

    Returns:
        Operator and name of each; of nodes that the runtime has made itself too.
    """
    return [
        (node.op_type, node.name)
        for part in session.get_provider_graph_assignment_info()
        if part.ep_name != provider
        for node in part.get_nodes()
    ]


def shape_nodes(model: bytes) -> set[str]:
    """Names of a graph's nodes that compute with nothing but sizes and constants.

    Providers of devices leave these to the CPU, where sizes are.

    Args:
        model: The serialized ONNX model.
    """
    import onnx

    graph = onnx.load_from_string(model).graph
    constants = {tensor.name for tensor in graph.initializer}
    sizes: set[str] = set()
    names = set()
    for node in graph.node:
        inputs = {name for name in node.input if name}
        if node.op_type == "Constant":
            constants.update(node.output)
        elif node.op_type == "Shape" or (inputs & sizes and inputs <= sizes | constants):
            sizes.update(node.output)
            names.add(node.name)
    return names


def require_placement(
    session: InferenceSession, provider: str, allowed: Collection[str] = ()
) -> None:
    """Makes sure that a provider runs all of a session's nodes.

    Args:
        session: Made with `RECORDED`.
        provider: What the runtime calls it.
        allowed: Names of nodes that may run elsewhere.

    Raises:
        TargetError: It does not; the first nodes that it leaves are named.
    """
    left = [
        (operator, name) for operator, name in elsewhere(session, provider) if name not in allowed
    ]
    if left:
        named = [f"{operator} ({name})" if name else operator for operator, name in left[:_NAMED]]
        more = [f"{len(left) - _NAMED} more"] if len(left) > _NAMED else []
        count = f"{len(left)} node{'s' * (len(left) > 1)}"
        raise TargetError(f"{provider} leaves {count} to the CPU: {', '.join(named + more)}")
