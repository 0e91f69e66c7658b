"""Layered drawings of directed acyclic graphs: where boxes go, and what way edges take.

Source: Sugiyama, Tagawa and Toda 1981, "Methods for Visual Understanding of Hierarchical System
Structures". Rows are longest paths, the order within a row is that of barycenters; places are
least squares under that order (isotonic regression by pooling adjacent violators).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

_SWEEPS = 16
_GAP = 18.0
_PASSAGE = 14.0
"""Width that an edge takes in a row that it passes."""

_FORCES = (4.0, 0.1, 1.0)
"""How much an edge strives to be upright: between two passages, a passage and a box, two boxes."""

_SLACK = 0.05
"""Likewise an edge of a box that stands aside, and how much a box without edges stays put."""

_RELAXATIONS = 200


@dataclass(frozen=True)
class Layout:
    """Where everything is.

    Attributes:
        rows: The row of each box.
        centers: The middle of each box, left to right.
        ways: For each edge, where it is in every row that it passes, from box to box.
        width: Of it all.
    """

    rows: tuple[int, ...]
    centers: tuple[float, ...]
    ways: tuple[tuple[float, ...], ...]
    width: float


def lay_out(
    widths: Sequence[float],
    bands: Sequence[int],
    edges: Sequence[tuple[int, int]],
    aside: frozenset[int] = frozenset(),
) -> Layout:
    """Lays boxes out in rows, so that every edge goes down.

    Args:
        widths: Of each box.
        bands: Of each box, not falling; all rows of a band are above those of the next.
        edges: Pairs of boxes, the first of which stands before the second.
        aside: Boxes that others need not be right above or below of.
    """
    rows = _rows(bands, edges)
    # An edge that passes rows is a chain of passages, which are ordered and placed like boxes.
    width_of = list(widths)
    row_of = list(rows)
    chains = []
    for source, target in edges:
        passed = range(rows[source] + 1, rows[target])
        chains.append([source, *range(len(row_of), len(row_of) + len(passed)), target])
        row_of += passed
        width_of += [_PASSAGE] * len(passed)
    boxes = len(widths)
    above: list[list[int]] = [[] for _ in row_of]
    below: list[list[int]] = [[] for _ in row_of]
    springs: list[dict[int, float]] = [{} for _ in row_of]
    for chain in chains:
        for upper, lower in pairwise(chain):
            below[upper].append(lower)
            above[lower].append(upper)
            ends = sum(item < boxes for item in (upper, lower))
            force = _SLACK if aside.intersection((upper, lower)) else _FORCES[ends]
            springs[upper][lower] = springs[lower][upper] = force
    order: list[list[int]] = [[] for _ in range(max(row_of, default=-1) + 1)]
    for item, row in enumerate(row_of):
        order[row].append(item)
    _sort(order, above, below)
    centers = _place(order, springs, width_of)
    left = min((c - w / 2 for c, w in zip(centers, width_of, strict=True)), default=0.0)
    right = max((c + w / 2 for c, w in zip(centers, width_of, strict=True)), default=0.0)
    centers = [center - left for center in centers]
    return Layout(
        tuple(rows),
        tuple(centers[: len(widths)]),
        tuple(tuple(centers[item] for item in chain) for chain in chains),
        right - left,
    )


def _rows(bands: Sequence[int], edges: Sequence[tuple[int, int]]) -> list[int]:
    """Longest paths within each band, bands one below the other."""
    inside = sorted((s, t) for s, t in edges if bands[s] == bands[t])
    entered = {target for source, target in edges if bands[source] != bands[target]}
    depth = [0] * len(bands)
    for source, target in inside:
        depth[target] = max(depth[target], depth[source] + 1)
        if source in entered:
            entered.add(target)
    # What nothing from above goes into moves down to where it is wanted.
    for source in range(len(bands) - 1, -1, -1):
        wanted = [depth[target] for s, target in inside if s == source]
        if wanted and source not in entered:
            depth[source] = min(wanted) - 1
    rows, start = [0] * len(bands), 0
    for band in sorted(set(bands)):
        members = [item for item, own in enumerate(bands) if own == band]
        for item in members:
            rows[item] = start + depth[item]
        start += max(depth[item] for item in members) + 1
    return rows


def _sort(
    order: list[list[int]], above: Sequence[Sequence[int]], below: Sequence[Sequence[int]]
) -> None:
    """Sorts rows by the mean place of what is above, or below, until few edges cross."""
    place = {item: float(index) for row in order for index, item in enumerate(row)}

    def barycenter(item: int, neighbours: Sequence[Sequence[int]]) -> float:
        found = neighbours[item]
        return sum(place[n] for n in found) / len(found) if found else place[item]

    for sweep in range(_SWEEPS):
        down = sweep % 2 == 0
        for row in order if down else reversed(order):
            keys = {item: barycenter(item, above if down else below) for item in row}
            row.sort(key=keys.__getitem__)
            place.update({item: float(index) for index, item in enumerate(row)})


def _place(
    order: Sequence[Sequence[int]],
    springs: Sequence[Mapping[int, float]],
    widths: Sequence[float],
) -> list[float]:
    """The places at which edges are as upright as can be, found row by row.

    Args:
        order: Boxes and passages of each row, from the left.
        springs: With how much force each is pulled above or below which others.
        widths: Of each.
    """
    centers = [0.0] * len(widths)
    for sweep in range(_RELAXATIONS):
        for row in order if sweep % 2 == 0 else reversed(order):
            pulls = [springs[item] or {item: _SLACK} for item in row]
            forces = [sum(pull.values()) for pull in pulls]
            wanted = [
                sum(strength * centers[other] for other, strength in pull.items()) / force
                for pull, force in zip(pulls, forces, strict=True)
            ]
            for item, center in zip(row, _apart(row, wanted, forces, widths), strict=True):
                centers[item] = center
    return centers


def _apart(
    row: Sequence[int], wanted: Sequence[float], forces: Sequence[float], widths: Sequence[float]
) -> list[float]:
    """The places nearest to the wanted ones at which nothing overlaps."""
    offsets = [0.0]
    for left, right in pairwise(row):
        offsets.append(offsets[-1] + (widths[left] + widths[right]) / 2 + _GAP)
    # Less its offset, no place may be left of the one before: pools of equal values.
    pools: list[tuple[float, float, int]] = []
    for want, force, offset in zip(wanted, forces, offsets, strict=True):
        value, total, count = want - offset, force, 1
        while pools and pools[-1][0] >= value:
            before, its_force, its_count = pools.pop()
            value = (before * its_force + value * total) / (its_force + total)
            total, count = its_force + total, its_count + count
        pools.append((value, total, count))
    values = [value for value, _, count in pools for _ in range(count)]
    return [value + offset for value, offset in zip(values, offsets, strict=True)]
