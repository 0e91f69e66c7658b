"""What the code of an op package raises, as one line that names the package and its part."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from pipelines.common.errors import OpPackageError, PipelineError, one_line

if TYPE_CHECKING:
    from pipelines.common.graph.rules import Rule

P = ParamSpec("P")
R = TypeVar("R")


@contextmanager
def code_of(package: str, part: str, *, strict: bool) -> Iterator[None]:
    """Wherein code of a package runs, which may raise anything.

    Args:
        package: The package's name.
        part: Which part of it: ``emit of rule 'Sigmoid'``.
        strict: Whether what it raises comes through, instead of being one line.

    Raises:
        OpPackageError: It raises something that is not the program's own error.
    """
    try:
        yield
    except PipelineError:
        raise
    except (Exception, SystemExit) as error:
        if strict:
            raise
        raise OpPackageError(
            f"op package '{package}': {part} fails: {one_line(error)}; `strict=True` shows where"
        ) from error


def guarded(function: Callable[P, R], package: str, part: str, *, strict: bool) -> Callable[P, R]:
    """A function of a package, see `code_of`."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        with code_of(package, part, strict=strict):
            return function(*args, **kwargs)

    return call


def guarded_rule(rule: Rule, package: str, *, strict: bool) -> Rule:
    """A rule whose functions are, see `code_of`."""

    def guard(part: str, function: Callable[P, R]) -> Callable[P, R]:
        return guarded(function, package, f"{part} of rule '{rule.name}'", strict=strict)

    examples = rule.examples
    if examples is not None:
        made = examples

        def listed(generator: Any) -> Iterable[Mapping[str, Any]]:
            return list(made(generator))

        examples = guard("examples", listed)
    return replace(
        rule,
        pattern=guard("pattern", rule.pattern),
        emit=guard("emit", rule.emit),
        examples=examples,
    )
