"""A picture of a graph before and after lowering, as SVG.

Of the layers only the first is drawn. Boxes are operators, filled by their share of the bytes that
a token reads; a box in the layer stands for its like in all layers. Text is set in a fixed pitch,
so that boxes can be made to fit it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from pipelines.common.ops import DOMAIN
from pipelines.common.view import svg
from pipelines.common.view.anatomy import Anatomy, Node, Tensor
from pipelines.common.view.layered import lay_out
from pipelines.common.view.parts import is_state

_LINE, _PADDING = 15.0, 8.0
_ROW_GAP, _BAND_GAP, _COLUMN_GAP = 34.0, 30.0, 60.0
_MARGIN, _BAND_LABEL, _HEAD, _FOOT = 24.0, 28.0, 92.0, 48.0

_EMBEDDING, _FIRST, _MORE, _OUTPUT = range(4)
"""The bands of the picture, from the top."""

_SHARES = (
    (0.01, "under 1 %"),
    (0.05, "1 to 5 %"),
    (0.10, "5 to 10 %"),
    (0.20, "10 to 20 %"),
    (1.01, "over 20 %"),
)
"""What each colour stands for: shares up to a bound."""

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
    columns = [_Column(_Contents(graph)) for graph in graphs.values()]
    layers = max(graph.layers for graph in graphs.values())
    labels = {
        _EMBEDDING: "embedding",
        _FIRST: f"the first of {layers} layers",
        _OUTPUT: "output",
    }
    width = sum(column.layout.width for column in columns) + _COLUMN_GAP * (len(columns) - 1)
    width = max(width + 4 * _PADDING, len(_EXPLANATION) * svg.CHARACTER) + 2 * _MARGIN
    parts: list[str] = []
    tops: dict[int, float] = {}
    y = _HEAD
    for band in (_EMBEDDING, _FIRST, _MORE, _OUTPUT):
        height = max(column.height(band) for column in columns)
        if not height:
            continue
        tops[band] = y
        if label := labels.get(band):
            tops[band] += _BAND_LABEL
            height += _BAND_LABEL + 2 * _PADDING
            parts += [
                svg.rectangle("band", _MARGIN, y, width - 2 * _MARGIN, height),
                svg.text(_MARGIN + 2 * _PADDING, y + 18, label, "quiet"),
            ]
        y += height + _BAND_GAP
    x = _MARGIN + 2 * _PADDING
    for (name, graph), column in zip(graphs.items(), columns, strict=True):
        about = f"{name}: {len(graph.nodes)} operators, {graph.cost.bytes:,} bytes a token"
        parts += [svg.text(x, _HEAD - 16, about, "title"), *column.draw(x, tops)]
        x += column.layout.width + _COLUMN_GAP
    parts += [svg.text(_MARGIN, 38, title, "head"), *_legend(y + _LINE)]
    return svg.document(title, width, y + _FOOT, parts)


@dataclass(frozen=True)
class _Box:
    """Something to be drawn.

    Attributes:
        band: The band that it is in.
        kind: Its class in the style sheet.
        title: Its first line.
        lines: The others, each with its class.
        about: What is told of it when it is pointed at.
    """

    band: int
    kind: str
    title: str
    lines: tuple[tuple[str, str], ...] = ()
    about: str = ""

    @property
    def width(self) -> float:
        widths = [len(line) * svg.CHARACTER for line, _ in self.lines]
        return max([len(self.title) * svg.TITLE_CHARACTER, *widths]) + 2 * _PADDING

    @property
    def height(self) -> float:
        return (1 + len(self.lines)) * _LINE + 2 * _PADDING - 3

    def draw(self, x: float, y: float) -> str:
        """Its middle is at `x`, its upper edge at `y`."""
        lines = enumerate(((self.title, "title"), *self.lines))
        return svg.group(
            "box",
            self.about or self.title,
            [
                svg.rectangle(self.kind, x - self.width / 2, y, self.width, self.height),
                *(
                    svg.text(x, y + _PADDING + 10 + number * _LINE, line, kind, anchor="middle")
                    for number, (line, kind) in lines
                ),
            ],
        )


class _Contents:
    """The boxes of a graph, each behind those that it reads from, and the edges between them."""

    def __init__(self, graph: Anatomy) -> None:
        self.boxes: list[_Box] = []
        self.edges: dict[tuple[int, int], None] = {}
        self._makers: dict[str, int] = {}
        self._graph = graph
        first = graph.cost_of_part(1).bytes
        layers = sum(graph.cost_of_part(part).bytes for part in range(1, graph.layers + 1))
        self._times = layers / first if first else 1.0
        for node in sorted(graph.nodes, key=lambda node: node.part):
            if node.operator == "Constant":
                continue
            if 1 < node.part <= graph.layers:
                self._join(node)
            else:
                self._add(node)

    def _join(self, node: Node) -> None:
        """Adds a node to the box that stands for all layers but the first."""
        if not self.boxes or self.boxes[-1].kind != "more":
            count = self._graph.layers - 1
            title = f"{count} more layers" if count > 1 else "1 more layer"
            self.boxes.append(_Box(_MORE, "more", title))
        self._connect(node.inputs, node.outputs)

    def _add(self, node: Node) -> None:
        """Adds a node, and what of the network's inputs and outputs it reads and makes."""
        band = {0: _EMBEDDING, 1: _FIRST}.get(node.part, _OUTPUT)
        if "tokens" in node.inputs and "tokens" not in self._makers:
            self._box(_Box(band, "end", "tokens"), (), ("tokens",))
        if node.cost.state:
            old = tuple(name for name in node.inputs if is_state(name) and name not in self._makers)
            self._box(_Box(band, "state", "KV state in", ((", ".join(old), "quiet"),)), (), old)
        self._box(self._operator(node, band), node.inputs, node.outputs)
        if new := [name for name in node.outputs if is_state(name.removeprefix("new_"))]:
            self._box(_Box(band, "state", "KV state out", ((", ".join(new), "quiet"),)), new)
        if "logits" in node.outputs:
            self._box(_Box(band, "end", "logits"), ("logits",))

    def _operator(self, node: Node, band: int) -> _Box:
        """The box of a node, with what of domain, weights, inputs and bytes it has."""
        share = node.cost.bytes / self._graph.cost.bytes * (self._times if node.part == 1 else 1)
        shade = next(number for number, (bound, _) in enumerate(_SHARES) if share < bound)
        domain, _, operator = node.operator.rpartition(":")
        lines = [] if domain in ("", DOMAIN) else [(domain, "quiet")]
        lines += _tensor_lines(node.tensors)
        fed = dict.fromkeys(
            n for n in node.inputs if n in self._graph.inputs and n not in self._makers
        )
        if fed:
            lines += [(f"with {', '.join(fed)}", "quiet")]
        if node.cost.bytes:
            lines += [(f"{node.cost.bytes:,} B, {_percent(share)}", "quiet")]
        return _Box(band, f"share{shade}", operator, tuple(lines), node.operator)

    def _box(self, box: _Box, inputs: Sequence[str], outputs: Sequence[str] = ()) -> None:
        self.boxes.append(box)
        self._connect(inputs, outputs)

    def _connect(self, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        """Notes what the last box reads and makes."""
        last = len(self.boxes) - 1
        for name in inputs:
            maker = self._makers.get(name, last)
            if maker != last:
                self.edges[maker, last] = None
        self._makers.update(dict.fromkeys(outputs, last))


class _Column:
    """A graph, laid out."""

    def __init__(self, contents: _Contents) -> None:
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
        rows: dict[int, tuple[float, float]] = {}
        for band, heights in self._rows.items():
            y = tops[band]
            for row, height in sorted(heights.items()):
                rows[row] = (y, y + height)
                y += height + _ROW_GAP
        spans = []
        for box, row in zip(self.boxes, self.layout.rows, strict=True):
            middle = sum(rows[row]) / 2
            spans.append((middle - box.height / 2, middle + box.height / 2))
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

    def _ends(self) -> list[float]:
        """Where each edge meets the box below it: side by side, as they come."""
        ends = [0.0] * len(self.edges)
        arriving: dict[int, list[int]] = {}
        for number, (_, target) in enumerate(self.edges):
            arriving.setdefault(target, []).append(number)
        for target, numbers in arriving.items():
            numbers.sort(key=lambda number: self.layout.ways[number][-2])
            step = min(2 * _PADDING, 0.6 * self.boxes[target].width / len(numbers))
            for place, number in enumerate(numbers):
                middle = self.layout.centers[target]
                ends[number] = middle + step * (place - (len(numbers) - 1) / 2)
        return ends


def _tensor_lines(tensors: Sequence[Tensor]) -> Iterator[tuple[str, str]]:
    """What goes into a node: a line for each weight, and below it one for each of its tensors."""
    for parameter, made in groupby(tensors, key=lambda tensor: tensor.parameter):
        yield re.sub(r"^layers\.\d+\.", "", parameter).removesuffix(".weight"), ""
        for tensor in made:
            shape = " x ".join(map(str, tensor.shape))
            yield " ".join(p for p in (tensor.encoding, tensor.layout, shape) if p), "quiet"


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.01 else "< 1%"


def _legend(y: float) -> Iterator[str]:
    """What the colours mean."""
    entries = [
        *((f"share{shade}", label) for shade, (_, label) in enumerate(_SHARES)),
        ("state", "KV state"),
        ("end", "network input and output"),
    ]
    x = _MARGIN
    yield svg.text(x, y - 14, _EXPLANATION, "quiet")
    for kind, label in entries:
        yield svg.rectangle(kind, x, y, 20, 14)
        yield svg.text(x + 26, y + 11, label)
        x += 26 + len(label) * svg.CHARACTER + 22
