"""Op packages at work in a target on ONNX Runtime: what they took, and who has made a graph."""

from __future__ import annotations

from pipelines.common.graph.rules import LoweredGraph
from pipelines.common.ort.op_errors import Makers
from pipelines.common.program.package import LoadedPackage
from pipelines.common.program.target import Job


def at_work(job: Job, graph: LoweredGraph) -> list[LoadedPackage]:
    """The op packages whose rules took a part of the graph."""
    names = {taken.package for taken in graph.taken}
    return [package for package in job.packages if package.name in names]


def report(job: Job, graph: LoweredGraph, target: str) -> None:
    """Says which rule took what, and of packages that the user named which changed nothing."""
    for taken in graph.taken:
        origin = taken.package or target
        job.progress.detail(f"{origin}: {taken.rule} took {taken.nodes} x {taken.operators}")
    working = at_work(job, graph)
    for package in job.packages:
        if package.named and package not in working:
            job.progress.notice(
                f"op package '{package.name}' changes nothing: none of its rules for target"
                f" {target} fits this model"
            )


def makers(job: Job, graph: LoweredGraph) -> Makers:
    """Who has made the graph of a job."""
    working = at_work(job, graph)
    foreign = {package.name for package in working if not package.shipped}
    return Makers(
        packages=frozenset(package.name for package in working),
        libraries={package.name: package.library for package in working if package.library},
        rules=tuple(
            f"rule '{taken.rule}' of op package '{taken.package}'"
            for taken in graph.taken
            if taken.package in foreign
        ),
        folder=job.program.folder,
    )
