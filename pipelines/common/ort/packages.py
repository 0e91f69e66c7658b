"""Op packages at work in a target on ONNX Runtime: what they took, and who has made a graph."""

from __future__ import annotations

from pipelines.common.graph.rules import LoweredGraph
from pipelines.common.ort.op_errors import Makers
from pipelines.common.program.package import LoadedPackage
from pipelines.common.program.target import Deployment


def at_work(deployment: Deployment, graph: LoweredGraph) -> list[LoadedPackage]:
    """The op packages whose rules took a part of the graph."""
    names = {taken.package for taken in graph.taken}
    return [package for package in deployment.packages if package.name in names]


def report(deployment: Deployment, graph: LoweredGraph, target: str) -> None:
    """Says which rule took what, and of packages that the user named which changed nothing."""
    for taken in graph.taken:
        origin = taken.package or target
        deployment.progress.detail(f"{origin}: {taken.rule} took {taken.nodes} x {taken.operators}")
    working = at_work(deployment, graph)
    for package in deployment.packages:
        if package.named and package not in working:
            deployment.progress.notice(
                f"op package '{package.name}' changes nothing: none of its rules for target"
                f" {target} fits this model"
            )


def makers(deployment: Deployment, graph: LoweredGraph) -> Makers:
    """Who has made the graph of a deployment."""
    working = at_work(deployment, graph)
    foreign = {package.name for package in working if not package.shipped}
    return Makers(
        packages=frozenset(package.name for package in working),
        libraries={package.name: package.library for package in working if package.library},
        rules=tuple(
            f"rule '{taken.rule}' of op package '{taken.package}'"
            for taken in graph.taken
            if taken.package in foreign
        ),
        folder=deployment.program.folder,
    )
