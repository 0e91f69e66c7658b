"""What the guide for Python says works as it stands, one block after the other."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def blocks(document):
    return re.findall(r"```python\n(.*?)```", (ROOT / document).read_text(), re.DOTALL)


def test_the_guide(capsys):
    found = blocks("docs/python.md")
    assert len(found) == 10
    names = {}
    for block in found:
        exec(compile(block, "docs/python.md", "exec"), names)
    out, err = capsys.readouterr()
    assert out.startswith(", there was a quiet boy named Sam.")
    closed, unknown = out.splitlines()[-2:]
    assert closed == "the model is closed; load it again"
    assert unknown.startswith("unknown pipeline 'lama3', did you mean 'llama3'?")
    assert err == ""


def test_the_lines_of_the_readme(capsys):
    (block,) = blocks("README.md")
    exec(compile(block, "README.md", "exec"), {})
    assert capsys.readouterr().out.startswith(", there was a quiet boy named Sam.")
