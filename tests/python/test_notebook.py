"""The notebook runs, cell after cell, and prints what is committed with it."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[2] / "docs" / "notebook.ipynb"
CELLS = [
    ("".join(cell["source"]), "".join(line for out in cell["outputs"] for line in out["text"]))
    for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    if cell["cell_type"] == "code"
]


def test_cells_print_what_they_show(capsys):
    names = {}
    for source, output in CELLS:
        exec(compile(source, NOTEBOOK.name, "exec"), names)
        assert capsys.readouterr() == (output, "")


def test_a_cell_that_is_interrupted(capsys):
    """The button sends SIGINT, here while the third piece of a stream is printed."""
    names = {}
    (first, whole), *others = CELLS
    pieces = []

    def interrupted(text, **_):
        pieces.append(text)
        if len(pieces) == 3:
            signal.raise_signal(signal.SIGINT)

    names["print"] = interrupted
    with pytest.raises(KeyboardInterrupt):
        exec(compile(first, NOTEBOOK.name, "exec"), names)
    assert whole.startswith("".join(pieces))
    del names["print"]
    for source, output in others:
        exec(compile(source, NOTEBOOK.name, "exec"), names)
        assert capsys.readouterr() == (output, "")
