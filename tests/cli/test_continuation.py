"""What a terminal shows of texts and tables, and that these are themselves anywhere else."""

from __future__ import annotations

import itertools
import os
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from programs import Program
from rich.cells import cell_len

from pipelines.common.cli.continuation import LineBreaker
from pipelines.llama3.pipeline import BUNDLED

PROMPT = "Once upon a time there was a very small red fox who " * 3

ECHO = (*("echo", "--prompt", PROMPT), "--max-new-tokens", "400")


def broken(pieces: list[str], width: int) -> str:
    lines = LineBreaker(width)
    return "".join(map(lines.push, pieces)) + lines.flush()


@pytest.mark.parametrize(
    ("text", "width", "expected"),
    [
        ("to be or not", 5, "to be\nor \nnot"),
        ("to be or not", 6, "to be \nor not"),
        ("to be\nor not", 80, "to be\nor not"),
        ("a  b", 80, "a  b"),
        ("  indented", 80, "  indented"),
        ("abcdefgh ij", 4, "abcdefgh\nij"),  # wider than a line: the terminal breaks it
        ("日本 語語", 6, "日本 \n語語"),  # two cells each
        ("\tab", 10, "\tab"),
        ("\tabc", 10, "\t\nabc"),
    ],
)
def test_lines_end_between_words(text: str, width: int, expected: str):
    assert broken([text], width) == expected


TEXTS = st.text(st.sampled_from("ab日 \n\t.\u0301"), max_size=60)


@given(TEXTS, st.integers(1, 12), st.lists(st.integers(0, 60), max_size=6))
def test_how_a_text_is_cut_changes_nothing(text: str, width: int, cuts: list[int]):
    ends = [0, *sorted(cuts), len(text)]
    pieces = [text[start:end] for start, end in itertools.pairwise(ends)]
    assert broken(pieces, width) == broken([text], width)


@given(TEXTS, st.integers(8, 20))
def test_nothing_is_lost_but_the_space_that_a_line_ends_at(text: str, width: int):
    shown = broken([text], width)
    assert re.sub(r"\s", "", shown) == re.sub(r"\s", "", text)
    for line in shown.split("\n"):
        if "\t" not in line and all(cell_len(word) < width for word in line.split()):
            assert cell_len(line.rstrip()) <= width


@pytest.mark.parametrize("no_color", [False, True])
def test_a_terminal_shows_the_prompt_and_whole_words(no_color: bool):
    environment = {**os.environ, "TERM": "xterm", **({"NO_COLOR": "1"} if no_color else {})}
    if not no_color:
        environment.pop("NO_COLOR", None)
    program = Program(*ECHO, terminal=["stdout", "stderr"], env=environment)
    assert program.ended()[0] == 0
    shown = program.shown.whole().replace("\r\n", "\n")
    first = shown.index("Once upon")
    assert shown[:first].endswith("\x1b[2m") != no_color
    text = re.sub(r"\x1b\[\d*m", "", shown[first:])
    text = text[: text.index("\nprompt ")]
    words = text.split()
    assert words[: len(PROMPT.split())] == PROMPT.split()
    assert len(words) > len(PROMPT.split())
    assert all(len(line) <= 80 for line in text.split("\n"))
    assert set(words) <= set(PROMPT.split())  # no line ends within one


@pytest.mark.parametrize("terminal", [[], ["stderr"]])
def test_what_is_no_terminal_gets_the_text_alone(terminal: list[str]):
    program = Program(*ECHO, terminal=terminal)
    code, out, err = program.ended()
    assert code == 0
    assert out.startswith(PROMPT)
    assert "\n" not in out
    assert "Once" not in (program.shown.whole() if terminal else err)


def test_quiet_shows_no_prompt():
    program = Program(*ECHO, "--quiet", terminal=["stdout", "stderr"])
    assert program.ended()[0] == 0
    assert program.shown.whole().count("Once") == 3


@pytest.mark.parametrize(
    "short", [("-p", "hi", "-n", "1"), ("--prompt", "hi", "--max-new-tokens", "1")]
)
def test_short_options(cli, short: tuple[str, ...]):
    assert cli("echo", *short).out == "h"


@pytest.mark.parametrize("words", [(), ("echo",), ("cache", "list")])
def test_h_is_help(cli, words: tuple[str, ...]):
    assert cli(*words, "-h").out == cli(*words, "--help").out != ""


@pytest.mark.parametrize(
    "words", [("list",), ("graph", "llama3"), ("ops", "list", "native"), ("inspect", "{model}")]
)
def test_tables_fit_a_terminal(process, words: tuple[str, ...]):
    args = [word.format(model=BUNDLED) for word in words]
    program = Program(*args, terminal=["stdout"])
    assert program.ended()[0] == 0
    shown = program.shown.whole().replace("\r\n", "\n")
    assert shown.split() == process(*args).out.split()
    for line in shown.split("\n"):
        assert len(line) <= 80 or len(line.split()) == 1, line
