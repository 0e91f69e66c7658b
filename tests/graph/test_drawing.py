"""A picture is valid, complete and without overlaps."""

from __future__ import annotations

from itertools import combinations
from xml.etree import ElementTree

import onnx_ir as ir
import pytest
from test_anatomy import CONTEXT, LAYERS, encodings, of_target

from pipelines.common.encodings import Q8_0
from pipelines.common.ops import DOMAIN
from pipelines.common.view import anatomy, svg
from pipelines.common.view.anatomy import Anatomy
from pipelines.common.view.drawing import draw

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def before(neutral: ir.Model) -> Anatomy:
    return anatomy.of_neutral(neutral, encodings(neutral, Q8_0), LAYERS, CONTEXT)


def boxes(picture: str) -> list[ElementTree.Element]:
    return ElementTree.fromstring(picture).findall(f".//{SVG}g[@class='box']")


def texts(element: ElementTree.Element) -> list[str]:
    return [text.text or "" for text in element.iter(f"{SVG}text")]


def rectangle(box: ElementTree.Element) -> tuple[float, float, float, float]:
    (found,) = box.iter(f"{SVG}rect")
    return tuple(float(found.attrib[name]) for name in ("x", "y", "width", "height"))


def drawn(graph: Anatomy) -> list[str]:
    """The nodes that a picture has, by what is told of their boxes."""
    parts = (0, 1, LAYERS + 1)
    return sorted(
        node.operator for node in graph.nodes if node.part in parts and node.operator != "Constant"
    )


@pytest.mark.parametrize("target", ["cpu", "native", "cuda", "coreml"])
def test_a_box_for_each_node_and_none_over_another(
    neutral: ir.Model, before: Anatomy, target: str
) -> None:
    after = anatomy.of_lowered(of_target(neutral, target, Q8_0), LAYERS, CONTEXT)
    found = boxes(draw("a model", {"neutral": before, "lowered": after}))
    operators = sorted(
        title
        for box in found
        if (title := box.findtext(f"{SVG}title"))
        not in ("KV state in", "KV state out", "tokens", "logits", "1 more layer")
    )
    assert operators == sorted(drawn(before) + drawn(after))
    for (x, y, width, height), (other_x, other_y, w, h) in combinations(map(rectangle, found), 2):
        apart = x + width <= other_x or other_x + w <= x
        assert apart or y + height <= other_y or other_y + h <= y


def test_boxes_tell_of_weights_and_bytes(before: Anatomy) -> None:
    found = boxes(draw("a model", {"neutral": before}))
    lines = [texts(box) for box in found]
    share = f"{64 * 68 * LAYERS / before.cost.bytes:.0%}"
    assert ["Linear", "attention.query", "q8_0 64 x 64", f"4,352 B, {share}"] in lines
    assert ["RoPE", "with past, cos, sin"] in lines
    # The next layer's weights are in no box.
    assert sum("attention.query" in box for box in lines) == 1


def test_the_state_and_the_ends_are_marked(before: Anatomy) -> None:
    lines = [texts(box) for box in boxes(draw("a model", {"neutral": before}))]
    for expected in (
        ["tokens"],
        ["KV state in", "key.0, value.0"],
        ["KV state out", "new_key.0, new_value.0"],
        ["1 more layer"],
        ["logits"],
    ):
        assert lines.count(expected) == 1


def test_arrows_go_along_the_data(before: Anatomy) -> None:
    root = ElementTree.fromstring(draw("a model", {"neutral": before}))
    edges = root.findall(f".//{SVG}path[@class='edge']")
    embedding = 1 + 2  # from the tokens; to the first norm and the first sum
    layer = 3 + 2 + 3 + 2 + 1 + 1  # projections, rotations, attention, state, output and its sum
    feed_forward = 2 + 2 + 1 + 1 + 1 + 1 + 1  # norm and sum, gate and up, SiLU, Mul, down, sum
    output = 2 + 2 + 1  # through the other layer to Select, norm and product; the logits
    assert len(edges) == embedding + layer + feed_forward + output
    assert len(root.findall(f".//{SVG}path[@class='tip']")) == len(edges)


def test_shares_have_colours(before: Anatomy) -> None:
    found = boxes(draw("a model", {"neutral": before}))
    kinds = {
        node.findtext(f"{SVG}title"): node.find(f"{SVG}rect").attrib["class"] for node in found
    }
    state = before.cost_of_operator(f"{DOMAIN}:Attention").bytes / before.cost.bytes
    assert state > 0.2
    assert kinds[f"{DOMAIN}:Attention"] == "share4"
    assert kinds[f"{DOMAIN}:RoPE"] == "share0"


def test_text_is_escaped(before: Anatomy) -> None:
    title = '<script>alert("&")</script>'
    root = ElementTree.fromstring(draw(title, {"<b>": before}))
    assert title in texts(root)
    assert any(text.startswith("<b>: ") for text in texts(root))
    assert not list(root.iter(f"{SVG}script"))


def test_names_of_any_kind_are_text() -> None:
    name = "</text><script>\x1b[31m\x00\x9b\u202e\ud800&amp;"
    picture = svg.document(name, 1, 1, [svg.group("box", name, [svg.text(0, 0, name)])])
    root = ElementTree.fromstring(picture)
    shown = [element.text for tag in ("title", "text") for element in root.iter(f"{SVG}{tag}")]
    assert shown == [r"</text><script>\x1b[31m\x00\x9b\u202e\ud800&amp;"] * 3
