"""What ONNX Runtime says of the operators of op packages, as one line for the user.

Nodes that a package's rule has made are named ``package/rule``, see `pipelines.common.graph.lower`,
and the runtime names nodes in most of its messages. What it says of others is no package's fault
and stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from pipelines.common.errors import TargetError
from pipelines.common.graph.rules import LoweredGraph
from pipelines.common.ort import said

_UNKNOWN = re.compile(r"([\w.-]*):(\w+)\(-?\d+\) is not a registered function/op")
_RUNNING = re.compile(r"while running (\w+) node\. Name:'([^/']+)/.*?' Status Message: (.*)")
_MAKING = re.compile(r"Exception during initialization: (.*)")


def of_session(
    error: Exception, graph: LoweredGraph, packages: Collection[str], libraries: Collection[str]
) -> TargetError | None:
    """Why a session cannot be made, if that is an op package's fault.

    Args:
        error: What the runtime raised.
        graph: The graph.
        packages: Names of the packages whose rules made some of its nodes.
        libraries: Names of those among them that have kernels.
    """
    message = said(error)
    if unknown := _UNKNOWN.search(message):
        domain, operator = unknown.groups()
        for node_name in _names(graph, domain, operator):
            package, _, rule = node_name.partition("/")
            if package in packages:
                return TargetError(
                    f"nobody has operator {operator} of domain '{domain}', which rule '{rule}' of"
                    f" op package '{package}' asks for: neither ONNX Runtime nor the package's"
                    " library"
                )
    for package in packages:
        if re.search(rf"[\"'(]{re.escape(package)}/", message):
            return TargetError(f"ONNX Runtime refuses what op package '{package}' makes: {message}")
    if libraries and (making := _MAKING.search(message)):
        by = " or ".join(f"'{name}'" for name in sorted(libraries))
        return TargetError(f"a kernel of op package {by} cannot be made: {making[1]}")
    return None


def of_run(error: Exception, packages: Collection[str]) -> TargetError | None:
    """Why a run failed, if a kernel of an op package did."""
    running = _RUNNING.search(said(error))
    if running is None or running[2] not in packages:
        return None
    operator, package, message = running.groups()
    return TargetError(f"operator {operator} of op package '{package}' failed: {message}")


@contextmanager
def explained_run(packages: Collection[str]) -> Iterator[None]:
    """Wherein a graph is run: what the runtime raises is explained where it can be.

    Args:
        packages: Names of the packages whose rules made some of the graph's nodes.

    Raises:
        TargetError: One of their kernels failed.
    """
    try:
        yield
    except RuntimeError as error:  # a bound run has none of the runtime's own classes
        if explanation := of_run(error, packages):
            raise explanation from error
        raise


def _names(graph: LoweredGraph, domain: str, operator: str) -> list[str]:
    """Names of the nodes that are of an operator."""
    import onnx

    nodes = onnx.load_from_string(graph.model).graph.node
    return [node.name for node in nodes if (node.domain, node.op_type) == (domain, operator)]
