"""Op packages at work in a target on ONNX Runtime: what they took, and whose fault an error is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pipelines.common.graph.rules import LoweredGraph
from pipelines.common.op_packages.package import LoadedPackage
from pipelines.common.ort import failures, op_errors
from pipelines.common.target import Job


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


@contextmanager
def explained(job: Job, graph: LoweredGraph) -> Iterator[None]:
    """Wherein the graph is compiled: what the runtime raises is explained where it can be.

    Raises:
        TargetError: The session cannot be made, and that is an op package's fault.
    """
    working = at_work(job, graph)
    names = frozenset(package.name for package in working)
    libraries = {package.name for package in working if package.library}
    try:
        yield
    except failures() as error:
        if explanation := op_errors.of_session(error, graph, names, libraries):
            raise explanation from error
        raise
