"""Draws what `benchmarks.compare` has measured.

    python -m benchmarks.plot FIGURES.json DIR

Every model gets an SVG file of its decoding over the length of the context, one over the number of
sequences, and one for the encodings that it was measured in.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.series import LLAMA_CPP, OWN, Comparison

try:
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullLocator, ScalarFormatter
except ModuleNotFoundError:
    sys.exit("plots need matplotlib: pip install -e '.[bench]'")


def plot(comparisons: Sequence[Comparison], folder: Path) -> list[Path]:
    """Draws all decoding that was measured at more than one length or batch size, or encoding.

    Args:
        comparisons: What was measured.
        folder: Where the files go; it is made.

    Returns:
        The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for section, abscissa, label in (
        ("decode", "length", "tokens of context"),
        ("batch", "sequences", "sequences side by side"),
    ):
        for shape in dict.fromkeys(one.shape for one in comparisons):
            points = [one for one in comparisons if (one.section, one.shape) == (section, shape)]
            if len(points) < 2:
                continue
            points.sort(key=lambda one: getattr(one, abscissa))
            figure = _figure(points, [getattr(one, abscissa) for one in points])
            title = f"Llama 3 {shape.upper()}, {points[0].encoding}: decoding"
            written.append(_write(figure, title, label, folder / f"{section}-{shape}.svg"))
    for shape in dict.fromkeys(one.shape for one in comparisons):
        points = [
            one
            for one in comparisons
            if (one.section, one.task, one.shape) == ("encodings", "decode", shape)
        ]
        if len(points) > 1:
            title, path = f"Llama 3 {shape.upper()}: decoding", folder / f"encodings-{shape}.svg"
            written.append(_write(_bars(points), title, "mixtures", path))
    return written


def _write(figure: Figure, title: str, label: str, path: Path) -> Path:
    axes = figure.axes[0]
    axes.set_title(title)
    axes.set_xlabel(label)
    # The same figures always give the same file.
    with mpl.rc_context({"svg.hashsalt": path.stem}):
        figure.savefig(path, metadata={"Date": None})
    return path


def _bars(points: Sequence[Comparison]) -> Figure:
    """The engines side by side, and above them what the memory allows."""
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.add_subplot()
    places, width = range(len(points)), 0.4
    for side, engine in ((-0.5, OWN), (0.5, LLAMA_CPP)):
        rates = [one.rate(engine) or 0.0 for one in points]
        axes.bar([place + side * width for place in places], rates, width, label=engine)
    limits = [one.roofline() or 0.0 for one in points]
    axes.hlines(
        limits,
        [place - width for place in places],
        [place + width for place in places],
        colors="grey",
        linestyles="--",
        label="read bandwidth",
    )
    axes.set_xticks(places, [one.encoding for one in points])
    axes.set_ylim(0, 1.3 * max(limits))  # room for the legend
    axes.set_ylabel("tokens/s")
    axes.grid(alpha=0.3, axis="y")
    axes.legend()
    return figure


def _figure(points: Sequence[Comparison], x: Sequence[int]) -> Figure:
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(x, [one.roofline() for one in points], "--", color="grey", label="read bandwidth")
    highest = 0.0
    for engine, marker in ((OWN, "o"), (LLAMA_CPP, "s")):
        rates = [rate for one in points if (rate := one.rate(engine)) is not None]
        if rates:
            axes.plot(x, rates, marker=marker, label=engine)
            highest = max(highest, *rates)
    axes.set_xscale("log", base=2)
    axes.set_xticks(x)
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_ylim(0, 1.5 * highest)  # reading for many sequences would be far above
    axes.set_ylabel("tokens/s")
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def main() -> None:
    """Reads the command line, draws."""
    parser = argparse.ArgumentParser(description="Draws the figures of benchmarks.compare.")
    parser.add_argument("figures", type=Path, metavar="FIGURES.json", help="what --json wrote")
    parser.add_argument("folder", type=Path, metavar="DIR")
    arguments = parser.parse_args()
    figures = json.loads(arguments.figures.read_text(encoding="utf-8"))
    for path in plot(list(map(Comparison.from_json, figures["comparisons"])), arguments.folder):
        print(path)


if __name__ == "__main__":
    main()
