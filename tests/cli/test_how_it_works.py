"""What the pages about how it works show is what the program prints, and their Python runs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs" / "how-it-works").glob("*.md"))
_PARTS = re.compile(r"^    run-pipeline ([^\n]+)$|^```(\w*)\n(.*?)^```$", re.M | re.S)


def shown():
    """Blocks without a language, each with the last command before it."""
    for page in PAGES:
        last = ""
        for command, language, block in _PARTS.findall(page.read_text()):
            last = command or last
            if block and not language:
                yield pytest.param(last, block, id=f"{page.stem}: {last[:40]}")


@pytest.mark.parametrize(("command", "block"), [*shown()])
def test_what_a_command_shows(cli, monkeypatch, tmp_path, command, block):
    monkeypatch.chdir(ROOT)
    arguments = [
        str(tmp_path / word) if re.fullmatch(r"(tiny|neutral|lowered)\S*", word) else word
        for word in shlex.split(command)
    ]
    outcome = cli(*arguments)
    assert outcome.code == 0
    printed = outcome.out.splitlines()
    assert [line for line in block.splitlines() if line not in (*printed, "...")] == []


@pytest.mark.parametrize(
    ("target", "nodes"), re.findall(r"--target (\S+?)`? .*?\| (\d+) \|", PAGES[3].read_text())
)
def test_nodes_of_other_targets(cli, target, nodes):
    natively = ["--no-native-ops"] * (target == "cpu")
    outcome = cli("graph", "llama3", "--target", target, *natively, "--quiet")
    assert re.search(r"  total +84 .* (\d+) +\S+ \S+$", outcome.out, re.M)[1] == nodes


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_python_of_a_page(page, monkeypatch, capsys):
    """Whatever the comments behind a `print` say is printed."""
    monkeypatch.chdir(ROOT)
    text = page.read_text()
    names = {}
    for _, language, block in _PARTS.findall(text):
        if language == "python" and "self" not in block:  # else a part of the source
            exec(compile(block, page.name, "exec"), names)
    said = re.findall(r"^print\(.*\)  # (.*)$", text, re.M)
    assert capsys.readouterr().out.splitlines() == said
