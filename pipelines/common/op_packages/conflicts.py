"""Two op packages with a rule for one pattern."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

from pipelines.common.graph.pattern_trace import collide, trace
from pipelines.common.program.package import LoadedPackage


def conflicts(packages: Sequence[LoadedPackage], target: str) -> Iterator[str]:
    """One line for each pair of packages and pattern that both have a rule for.

    Args:
        packages: Packages that the user named, the one that wins first.
        target: Whose rules are compared.
    """
    for winner, other in combinations(packages, 2):
        patterns = {
            trace(mine.pattern).operators: None
            for mine in winner.rules(target)
            for theirs in other.rules(target)
            if collide(mine, theirs)
        }
        for pattern in patterns:
            yield (
                f"op packages '{other.name}' and '{winner.name}' both have a rule for {pattern};"
                f" '{winner.name}', which was named last, wins"
            )
