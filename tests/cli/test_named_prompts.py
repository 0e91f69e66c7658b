"""Prompts by name: listed, shown, used, chosen from a menu, and a user's own."""

from __future__ import annotations

import json

import pytest
from programs import Program

from pipelines.common.cli.prompt import DEFAULT_PROMPT

QUIET = ("echo", "--quiet")


@pytest.fixture(autouse=True)
def own(monkeypatch, tmp_path):
    """The folder of the user's own prompts, where it is without a variable."""
    monkeypatch.delenv("RUN_PIPELINE_PROMPTS", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config" / "pipeline-driver" / "prompts"


@pytest.fixture
def mine(own):
    """That folder, with prompts in it."""
    own.mkdir(parents=True)
    (own / "mine.txt").write_text("My own\ntwo lines\n")
    (own / "story.txt").write_text("Another story\n")
    (own / "notes.md").write_text("none")
    return own


def names(outcome):
    return [line.split()[0] for line in outcome.out.splitlines()]


def test_those_that_ship_are_listed_and_all_can_be_used(cli):
    outcome = cli("prompts")
    assert {"merge-sort", "story", "emoji"} <= set(names(outcome))
    assert names(outcome) == sorted(names(outcome))
    assert all(len(line) <= 75 for line in outcome.out.splitlines())  # 80 with numbers
    for name in names(outcome):
        text = cli(*QUIET, "--prompt-name", name).out
        assert f"{text}\n" == cli("prompts", name).out
    assert cli(*QUIET, "--prompt-name", "meaning-of-life").out == DEFAULT_PROMPT


def test_own_ones_come_before_those_that_ship(cli, mine):
    listed = {line.split()[0]: line for line in cli("prompts").out.splitlines()}
    assert listed["mine"].split(maxsplit=1)[1] == "My own [yours]"
    assert listed["story"].endswith("Another story [yours]")
    assert "notes" not in listed
    assert cli(*QUIET, "--prompt-name", "mine").out == "My own\ntwo lines"
    assert cli(*QUIET, "--prompt-name", "story").out == "Another story"
    rows = json.loads(cli("prompts", "--json").out)
    assert rows["folder"] == str(mine)
    assert {row["name"] for row in rows["prompts"] if row["own"]} == {"mine", "story"}


def test_another_folder(cli, mine, monkeypatch, tmp_path):
    monkeypatch.setenv("RUN_PIPELINE_PROMPTS", str(tmp_path / "no"))
    outcome = cli("prompts")
    assert (outcome.code, outcome.error) == (
        2,
        f"RUN_PIPELINE_PROMPTS names {tmp_path / 'no'}, which is not there",
    )
    monkeypatch.setenv("RUN_PIPELINE_PROMPTS", str(mine / "mine.txt"))
    assert (
        cli("prompts").error == f"cannot read the prompts in {mine / 'mine.txt'}: Not a directory"
    )
    monkeypatch.setenv("RUN_PIPELINE_PROMPTS", str(tmp_path))
    assert "mine" not in names(cli("prompts"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\xff\xfe\x00", "is UTF-16; expected UTF-8"),
        (b"", "is empty; expected a prompt"),
        (None, "cannot read prompt mine from "),
    ],
)
def test_an_unreadable_one_is_a_line_and_no_obstacle(cli, mine, content, said):
    path = mine / "mine.txt"
    path.unlink()
    path.mkdir() if content is None else path.write_bytes(content)
    outcome = cli(*QUIET, "--prompt-name", "mine")
    assert outcome.code == 1
    assert said in outcome.error
    assert str(path) in outcome.error
    listed = {line.split()[0]: line for line in cli("prompts").out.splitlines()}
    assert listed["mine"].split()[1] == "unusable:"
    assert cli(*QUIET, "--prompt-name", "emoji").code == 0


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--prompt-name", "stroy"), "unknown prompt 'stroy', did you mean 'story'?"),
        (("--prompt-name", ""), "unknown prompt ''"),
        (("--prompt-name", "../story"), "unknown prompt '../story'"),
        (("--prompt-name", "story", "--prompt", "a"), "--prompt-name and --prompt are both given"),
        (("--prompt-name", "story", "--prompts-file", "a"), "--prompt-name and --prompts-file are"),
        (("--prompt-menu", "--prompt", "a"), "--prompt-menu and --prompt are both given; choose"),
        (("--prompt-menu",), "--prompt-menu is for a terminal; name a prompt with --prompt-name"),
    ],
)
def test_what_cannot_be_meant(cli, args, message):
    outcome = cli(*QUIET, *args)
    assert outcome.code == 2
    assert outcome.error.startswith(message)


def test_a_pipe_is_left_alone(process):
    assert process(*QUIET, "--prompt-name", "story", stdin=b"piped").out == "Once upon a time"


def test_a_named_prompt_is_a_message_too(cli):
    outcome = cli(*QUIET, "--chat", "--chat-template", "chatml", "--prompt-name", "story")
    assert "<|im_start|>user\nOnce upon a time<|im_end|>" in outcome.out


@pytest.mark.usefixtures("mine")
@pytest.mark.parametrize("answers", [["2"], ["story"], ["99", "stroy", "", "story"]])
def test_a_menu(answers):
    program = Program(*QUIET, "--prompt-menu", terminal=("stdin", "stderr"))
    for number, answer in enumerate(answers, 1):
        program.shown.wait_for("Number or name: ", number)
        program.type(f"{answer}\n")
    code = program.process.wait(60)
    shown = program.shown.whole()
    assert code == 0
    assert "  1  binary-search" in shown
    expected = {"2": "Answer with emojis", "story": "Another story"}[answers[-1]]
    assert program.out.whole().startswith(expected)
    assert ("did you mean 'story'?" in shown) == (len(answers) > 1)
