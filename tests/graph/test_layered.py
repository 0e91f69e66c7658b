"""Whatever the graph, boxes stand apart and edges go down."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.common.view.layered import lay_out


@st.composite
def graphs(draw: st.DrawFn) -> tuple[list[float], list[int], list[tuple[int, int]]]:
    count = draw(st.integers(1, 12))
    widths = draw(st.lists(st.floats(10, 300), min_size=count, max_size=count))
    bands = sorted(draw(st.lists(st.integers(0, 3), min_size=count, max_size=count)))
    pairs = [(source, target) for target in range(count) for source in range(target)]
    edges = draw(st.lists(st.sampled_from(pairs), unique=True)) if pairs else []
    return widths, bands, edges


@settings(max_examples=60, deadline=None)
@given(graphs())
def test_boxes_stand_apart_and_edges_go_down(
    graph: tuple[list[float], list[int], list[tuple[int, int]]],
) -> None:
    widths, bands, edges = graph
    layout = lay_out(widths, bands, edges)
    spans: dict[int, list[tuple[float, float]]] = {}
    for row, center, width in zip(layout.rows, layout.centers, widths, strict=True):
        spans.setdefault(row, []).append((center - width / 2, center + width / 2))
    for row, boxes in spans.items():
        # No edge that passes a row goes through a box in it.
        passing = [
            way[row - layout.rows[source]]
            for (source, target), way in zip(edges, layout.ways, strict=True)
            if layout.rows[source] < row < layout.rows[target]
        ]
        inside = sorted([*boxes, *((x, x) for x in passing)])
        assert all(left[1] < right[0] for left, right in pairwise(inside))
        assert inside[0][0] >= -1e-6
        assert inside[-1][1] <= layout.width + 1e-6
    for (source, target), way in zip(edges, layout.ways, strict=True):
        assert layout.rows[source] < layout.rows[target]
        assert len(way) == layout.rows[target] - layout.rows[source] + 1
        assert (way[0], way[-1]) == (layout.centers[source], layout.centers[target])
    for (upper, band), (lower, other) in pairwise(sorted(zip(layout.rows, bands, strict=True))):
        assert band <= other
        assert upper < lower or band == other


def test_a_chain_is_upright_though_an_edge_goes_around_it() -> None:
    layout = lay_out([100, 40, 80, 60], [0] * 4, [(0, 1), (1, 2), (2, 3), (0, 3)])
    assert layout.rows == (0, 1, 2, 3)
    assert max(layout.centers) - min(layout.centers) < 40
    first, second = layout.ways[3][1:-1]
    assert first == pytest.approx(second, abs=10)
    assert all(abs(x - layout.centers[row]) > 20 for row, x in ((1, first), (2, second)))


def test_what_nothing_goes_into_stands_where_it_is_wanted() -> None:
    assert lay_out([10] * 5, [0, 0, 0, 0, 0], [(0, 1), (1, 2), (2, 4), (3, 4)]).rows[3] == 2


def test_boxes_can_be_pulled_aside() -> None:
    edges = [(0, 1), (0, 2)]
    even = lay_out([50, 50, 50], [0, 0, 0], edges)
    uneven = lay_out([50, 50, 50], [0, 0, 0], edges, aside=frozenset([1]))
    assert abs(even.centers[2] - even.centers[0]) > 30
    assert abs(uneven.centers[2] - uneven.centers[0]) < 5
