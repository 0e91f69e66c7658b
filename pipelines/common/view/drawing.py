"""A picture of a graph before and after lowering, as SVG.

Of the layers only the first is drawn. Boxes are operators, filled by their share of the bytes that
a token reads; a box in the layer stands for its like in all layers. Text is set in a fixed pitch,
so that boxes can be made to fit it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pipelines.common.view import svg
from pipelines.common.view.anatomy import Anatomy
from pipelines.common.view.boxes import (
    BANDS,
    EMBEDDING,
    FIRST,
    LINE,
    OUTPUT,
    PADDING,
    SHARES,
    Contents,
)
from pipelines.common.view.layered import lay_out

_ROW_GAP, _BAND_GAP, _COLUMN_GAP = 34.0, 30.0, 60.0
_MARGIN, _HEAD, _FOOT = 24.0, 92.0, 48.0

_TITLE_BASE, _COLUMN_TITLE_BASE = 38.0, _HEAD - 16.0
"""Where the bases of the picture's title and of the columns' are."""

_BAND_LABEL, _BAND_LABEL_BASE = 28.0, 18.0
"""Height of a band's label, and where in it the base of the text is."""

_ARRIVALS = 0.6
"""The part of a box's width on which edges arrive at the most."""

_SWATCH, _SWATCH_HEIGHT, _SWATCH_BASE = 20.0, 14.0, 11.0
"""Size of the legend's samples of colours, and where the base of the text beside one is."""

_LABEL_GAP, _ENTRY_GAP, _EXPLANATION_GAP = 6.0, 22.0, 14.0
"""Before a text of the legend, behind it, and below the base of the explanation."""

_EXPLANATION = (
    "Colour: share of the bytes that a token reads; a box of the layer stands for its like in all"
    " layers. Constants are left out."
)


def draw(title: str, graphs: Mapping[str, Anatomy]) -> str:
    """The picture, an SVG document that needs no scripts, fonts or other files.

    Args:
        title: What it is a picture of.
        graphs: The graphs of one network, by what they are called; they stand side by side.
    """
    columns = [_Column(Contents(graph)) for graph in graphs.values()]
    width = sum(column.layout.width for column in columns) + _COLUMN_GAP * (len(columns) - 1)
    width = max(width + 4 * PADDING, len(_EXPLANATION) * svg.CHARACTER) + 2 * _MARGIN
    layers = max(graph.layers for graph in graphs.values())
    parts, tops, y = _bands(columns, layers, width)
    x = _MARGIN + 2 * PADDING
    for (name, graph), column in zip(graphs.items(), columns, strict=True):
        about = f"{name}: {len(graph.nodes)} operators, {graph.cost.bytes:,} bytes a token"
        parts += [svg.text(x, _COLUMN_TITLE_BASE, about, "title"), *column.draw(x, tops)]
        x += column.layout.width + _COLUMN_GAP
    parts += [svg.text(_MARGIN, _TITLE_BASE, title, "head"), *_legend(y + LINE)]
    return svg.document(title, width, y + _FOOT, parts)


def _bands(
    columns: Sequence[_Column], layers: int, width: float
) -> tuple[list[str], dict[int, float], float]:
    """The bands that there is something in: what is drawn, where their boxes begin, their end."""
    labels = {EMBEDDING: "embedding", FIRST: f"the first of {layers} layers", OUTPUT: "output"}
    parts: list[str] = []
    tops: dict[int, float] = {}
    y = _HEAD
    for band in BANDS:
        height = max(column.height(band) for column in columns)
        if not height:
            continue
        tops[band] = y
        if label := labels.get(band):
            tops[band] += _BAND_LABEL
            height += _BAND_LABEL + 2 * PADDING
            parts += [
                svg.rectangle("band", _MARGIN, y, width - 2 * _MARGIN, height),
                svg.text(_MARGIN + 2 * PADDING, y + _BAND_LABEL_BASE, label, "quiet"),
            ]
        y += height + _BAND_GAP
    return parts, tops, y


class _Column:
    """A graph, laid out."""

    def __init__(self, contents: Contents) -> None:
        self.boxes, self.edges = contents.boxes, list(contents.edges)
        widths = [box.width for box in self.boxes]
        bands = [box.band for box in self.boxes]
        states = (number for number, box in enumerate(self.boxes) if box.kind == "state")
        self.layout = lay_out(widths, bands, self.edges, aside=frozenset(states))
        self._rows: dict[int, dict[int, float]] = {}
        for box, row in zip(self.boxes, self.layout.rows, strict=True):
            heights = self._rows.setdefault(box.band, {})
            heights[row] = max(heights.get(row, 0.0), box.height)

    def height(self, band: int) -> float:
        rows = self._rows.get(band, {})
        return sum(rows.values()) + _ROW_GAP * max(0, len(rows) - 1)

    def draw(self, left: float, tops: Mapping[int, float]) -> Iterator[str]:
        """The edges, and then the boxes, from `left` on and each band from its top."""
        rows = self._places(tops)
        middles = (sum(rows[row]) / 2 for row in self.layout.rows)
        spans = [
            (middle - box.height / 2, middle + box.height / 2)
            for box, middle in zip(self.boxes, middles, strict=True)
        ]
        for (source, target), way, end in zip(
            self.edges, self.layout.ways, self._ends(), strict=True
        ):
            passed = range(self.layout.rows[source] + 1, self.layout.rows[target])
            row_end, row_start = rows[passed.start - 1][1], rows[passed.stop][0]
            yield svg.arrow(
                [
                    (left + way[0], spans[source][1], row_end),
                    *((left + x, *rows[row]) for x, row in zip(way[1:-1], passed, strict=True)),
                    (left + end, row_start, spans[target][0]),
                ]
            )
        for box, center, (top, _) in zip(self.boxes, self.layout.centers, spans, strict=True):
            yield box.draw(left + center, top)

    def _places(self, tops: Mapping[int, float]) -> dict[int, tuple[float, float]]:
        """The upper and the lower edge of each row."""
        rows: dict[int, tuple[float, float]] = {}
        for band, heights in self._rows.items():
            y = tops[band]
            for row, height in sorted(heights.items()):
                rows[row] = (y, y + height)
                y += height + _ROW_GAP
        return rows

    def _ends(self) -> list[float]:
        """Where each edge meets the box below it: side by side, as they come."""
        ends = [0.0] * len(self.edges)
        arriving: dict[int, list[int]] = {}
        for number, (_, target) in enumerate(self.edges):
            arriving.setdefault(target, []).append(number)
        for target, numbers in arriving.items():
            numbers.sort(key=lambda number: self.layout.ways[number][-2])
            step = min(2 * PADDING, _ARRIVALS * self.boxes[target].width / len(numbers))
            for place, number in enumerate(numbers):
                middle = self.layout.centers[target]
                ends[number] = middle + step * (place - (len(numbers) - 1) / 2)
        return ends


def _legend(y: float) -> Iterator[str]:
    """What the colours mean."""
    entries = [
        *((f"share{shade}", label) for shade, (_, label) in enumerate(SHARES)),
        ("state", "KV state"),
        ("end", "network input and output"),
    ]
    x = _MARGIN
    yield svg.text(x, y - _EXPLANATION_GAP, _EXPLANATION, "quiet")
    for kind, label in entries:
        yield svg.rectangle(kind, x, y, _SWATCH, _SWATCH_HEIGHT)
        x += _SWATCH + _LABEL_GAP
        yield svg.text(x, y + _SWATCH_BASE, label)
        x += len(label) * svg.CHARACTER + _ENTRY_GAP
