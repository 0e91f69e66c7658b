"""Checks of op packages, for tests; `run-pipeline ops check` has its own words for them."""

from __future__ import annotations

from pathlib import Path

from pipelines.common.op_check.check import check
from pipelines.common.pipeline_check.compare import near
from pipelines.common.pipeline_check.outcome import require
from pipelines.common.pipeline_check.subject import Subject, rows
from pipelines.common.registry.registry import Registry


def check_op_package(path: Path) -> str:
    """Makes sure that each rule for the CPU computes what its pattern does.

    Args:
        path: The op package.

    Returns:
        What was tried.

    Raises:
        CheckFailedError: A rule does not.
        OpPackageError: The package cannot be used.
    """
    packages = Registry.discover().packages
    results = list(check(packages.load(packages.typed(str(path)))))
    wrong = [
        f"{result.rule}: {result.problem or f'error {result.error:.1e}'}"
        for result in results
        if not result.ok
    ]
    require(not wrong, "; ".join(wrong))
    return f"{len(results)} checks"


def check_op_package_in(subject: Subject, path: Path, *, allowed: float = 1e-4) -> str:
    """Makes sure that a model runs with an op package as it does without.

    Args:
        subject: The model.
        path: The op package.
        allowed: The largest error, relative to the largest logit.

    Returns:
        How near it comes.

    Raises:
        CheckFailedError: No rule takes anything, or logits are others.
        OpPackageError: The package cannot be used.
    """
    model = subject.open(custom_ops=[path])
    deployment = model.deployment(slots=1, max_length=subject.room)
    packages = {taken.package for taken in model.target.lower(deployment).taken}
    name = next(package.name for package in model.packages if package.named)
    require(name in packages, "none of its rules takes anything of the model")
    return near(rows(subject.start(model), subject.tokens), subject.reference, allowed)
