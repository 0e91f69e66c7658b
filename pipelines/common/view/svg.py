"""The little of SVG that drawings are made of, with a style sheet for light and dark pages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from xml.sax import saxutils

from pipelines.common.escapes import printable

CHARACTER, TITLE_CHARACTER = 6.7, 7.9
"""Widest advance of the usual fixed-pitch fonts, in plain text and in titles."""

_STYLE = """
text { font: 11px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; fill: #24292f }
.title { font-size: 13px; font-weight: bold }
.head { font-size: 17px; font-weight: bold }
.quiet { fill: #57606a }
.page { fill: #ffffff }
.band { fill: #f6f8fa; stroke: #d0d7de }
.share0, .share1, .share2, .share3, .share4 { stroke: #57606a }
.share0 { fill: #ffffff }
.share1 { fill: #fff3c4 }
.share2 { fill: #ffdd8a }
.share3 { fill: #ffb866 }
.share4 { fill: #ff9248 }
.state { fill: #e2d9fb; stroke: #8250df }
.end { fill: #ddf4ff; stroke: #0969da }
.more { fill: #eaeef2; stroke: #57606a; stroke-dasharray: 5 4 }
.edge { fill: none; stroke: #6e7781; stroke-width: 1.3 }
.tip { fill: #6e7781 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .quiet { fill: #9ea7b3 }
  .page { fill: #0d1117 }
  .band { fill: #161b22; stroke: #30363d }
  .share0, .share1, .share2, .share3, .share4 { stroke: #8b949e }
  .share0 { fill: #21262d }
  .share1 { fill: #3b3417 }
  .share2 { fill: #5a4413 }
  .share3 { fill: #7d4a10 }
  .share4 { fill: #a8480c }
  .state { fill: #2f2450; stroke: #a371f7 }
  .end { fill: #0c2d4a; stroke: #4493f8 }
  .more { fill: #21262d; stroke: #8b949e }
  .edge { stroke: #8b949e }
  .tip { fill: #8b949e }
}
"""


def document(title: str, width: float, height: float, parts: Iterable[str]) -> str:
    """A document of that size, which needs no scripts, fonts or other files."""
    size = f'viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size}>',
            f"<title>{_escaped(title)}</title>",
            f"<style>{_STYLE}</style>",
            rectangle("page", 0, 0, width, height),
            *parts,
            "</svg>\n",
        ]
    )


def group(kind: str, title: str, parts: Iterable[str]) -> str:
    """Some parts together, and what is told of them when they are pointed at."""
    return "\n".join([f'<g class="{kind}"><title>{_escaped(title)}</title>', *parts, "</g>"])


def rectangle(kind: str, x: float, y: float, width: float, height: float) -> str:
    """A rectangle with its corner at `x` and `y`; `kind` is its class in the style sheet."""
    place = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
    return f'<rect class="{kind}" {place} rx="5"/>'


def text(x: float, y: float, content: str, kind: str = "", *, anchor: str = "start") -> str:
    """A line of text, its beginning or middle at `x` and its base at `y`."""
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text class="{kind}" {place}>{_escaped(content)}</text>'


def arrow(passages: Sequence[tuple[float, float, float]]) -> str:
    """A line that is upright at each x from one y to another, curved in between, with a tip."""
    x, start, y = passages[0]
    path = [f"M{x:.1f} {start:.1f}V{y:.1f}"]
    for to, above, below in passages[1:]:
        middle = (y + above) / 2
        path.append(f"C{x:.1f} {middle:.1f} {to:.1f} {middle:.1f} {to:.1f} {above:.1f}V{below:.1f}")
        x, y = to, below
    tip = f"M{x:.1f} {y:.1f}l-4 -8h8z"
    return f'<path class="edge" d="{"".join(path)}"/><path class="tip" d="{tip}"/>'


def _escaped(content: str) -> str:
    # What XML does not allow at all is what people would not see either.
    return saxutils.escape(printable(content))
