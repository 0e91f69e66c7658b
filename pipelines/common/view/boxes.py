"""What of a graph is drawn: boxes in the bands of a picture, and the edges between them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from pipelines.common.ops import DOMAIN
from pipelines.common.view import svg
from pipelines.common.view.anatomy import Anatomy, Node, Tensor
from pipelines.common.view.parts import is_state

LINE, PADDING = 15.0, 8.0
"""Height of a line of text, and what is free around the lines of a box."""

_BASE, _LEADING = 10.0, 3.0
"""From the top of a line to the base of its text, and what the last line of a box is lower by."""

EMBEDDING, FIRST, MORE, OUTPUT = BANDS = range(4)
"""The bands of the picture, from the top."""

SHARES = (
    (0.01, "under 1 %"),
    (0.05, "1 to 5 %"),
    (0.10, "5 to 10 %"),
    (0.20, "10 to 20 %"),
    (1.01, "over 20 %"),
)
"""What each colour stands for: shares up to a bound."""


@dataclass(frozen=True)
class Box:
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
        """As wide as its longest line."""
        widths = [len(line) * svg.CHARACTER for line, _ in self.lines]
        return max([len(self.title) * svg.TITLE_CHARACTER, *widths]) + 2 * PADDING

    @property
    def height(self) -> float:
        """As high as all its lines."""
        return (1 + len(self.lines)) * LINE + 2 * PADDING - _LEADING

    def draw(self, x: float, y: float) -> str:
        """Its middle is at `x`, its upper edge at `y`."""
        lines = enumerate(((self.title, "title"), *self.lines))
        return svg.group(
            "box",
            self.about or self.title,
            [
                svg.rectangle(self.kind, x - self.width / 2, y, self.width, self.height),
                *(
                    svg.text(x, y + PADDING + _BASE + number * LINE, line, kind, anchor="middle")
                    for number, (line, kind) in lines
                ),
            ],
        )


class Contents:
    """The boxes of a graph, each behind those that it reads from, and the edges between them.

    Attributes:
        boxes: The boxes.
        edges: Numbers of the boxes that they lead from and to.
    """

    def __init__(self, graph: Anatomy) -> None:
        self.boxes: list[Box] = []
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
            self.boxes.append(Box(MORE, "more", title))
        self._connect(node.inputs, node.outputs)

    def _add(self, node: Node) -> None:
        """Adds a node, and what of the network's inputs and outputs it reads and makes."""
        band = {0: EMBEDDING, 1: FIRST}.get(node.part, OUTPUT)
        if "tokens" in node.inputs and "tokens" not in self._makers:
            self._box(Box(band, "end", "tokens"), (), ("tokens",))
        if node.cost.state:
            old = tuple(name for name in node.inputs if is_state(name) and name not in self._makers)
            self._box(Box(band, "state", "KV state in", ((", ".join(old), "quiet"),)), (), old)
        self._box(self._operator(node, band), node.inputs, node.outputs)
        if new := [name for name in node.outputs if is_state(name.removeprefix("new_"))]:
            self._box(Box(band, "state", "KV state out", ((", ".join(new), "quiet"),)), new)
        if "logits" in node.outputs:
            self._box(Box(band, "end", "logits"), ("logits",))

    def _operator(self, node: Node, band: int) -> Box:
        """The box of a node, with what of domain, weights, inputs and bytes it has."""
        share = node.cost.bytes / self._graph.cost.bytes * (self._times if node.part == 1 else 1)
        shade = next(number for number, (bound, _) in enumerate(SHARES) if share < bound)
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
        return Box(band, f"share{shade}", operator, tuple(lines), node.operator)

    def _box(self, box: Box, inputs: Sequence[str], outputs: Sequence[str] = ()) -> None:
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


def _tensor_lines(tensors: Sequence[Tensor]) -> Iterator[tuple[str, str]]:
    """What goes into a node: a line for each weight, and below it one for each of its tensors."""
    for parameter, made in groupby(tensors, key=lambda tensor: tensor.parameter):
        yield re.sub(r"^layers\.\d+\.", "", parameter).removesuffix(".weight"), ""
        for tensor in made:
            shape = " x ".join(map(str, tensor.shape))
            yield " ".join(p for p in (tensor.encoding, tensor.layout, shape) if p), "quiet"


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.01 else "< 1%"
