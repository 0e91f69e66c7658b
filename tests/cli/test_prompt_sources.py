"""Where the prompt of a pipeline's command comes from."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from programs import SCRIPT

from pipelines.common.cli.prompt import DEFAULT_PROMPT


def test_without_stdin_the_default_is_the_prompt(cli):
    assert cli("echo", "--quiet").out == DEFAULT_PROMPT


def test_dev_null_is_no_prompt():
    with open(os.devnull) as null:  # noqa: PTH123
        command = [sys.executable, SCRIPT, "echo", "--quiet"]
        assert subprocess.check_output(command, stdin=null, text=True) == DEFAULT_PROMPT


@pytest.mark.parametrize("args", [[], ["--prompt", "-"]])
def test_a_pipe_is_the_prompt_less_its_last_newline(process, args):
    assert process("echo", "--quiet", *args, stdin="één\ntwo\n\n".encode()).out == "één\ntwo\n"


def test_a_pipe_is_left_alone_when_there_is_a_prompt(process):
    assert process("echo", "--quiet", "--prompt", "given", stdin=b"piped").out == "given"


MARK = b"\xef\xbb\xbf"


@pytest.mark.parametrize(
    ("content", "prompt"),
    [
        ("één\n".encode(), "één"),
        ("één\r\n".encode(), "één"),
        (MARK + "één".encode(), "één"),
        (MARK + b"a\r\nb\r\n\r\n", "a\nb\n"),
        (b"a\r", "a\r"),
        (b"a\rb\n\r\n", "a\rb\n"),
        (b"a" + MARK, "a\ufeff"),
    ],
)
def test_a_text_is_the_same_prompt_wherever_it_is_read(cli, tmp_path, content, prompt):
    file = tmp_path / "prompt.txt"
    file.write_bytes(content)
    args = ["echo", "--quiet"]
    assert cli(*args, "--prompt-file", file).out == prompt
    assert cli(*args, "--prompt-file", "-", stdin=content).out == prompt
    assert cli(*args, stdin=content).out == prompt
    tokens = json.loads(cli("tokenize", "--pipeline", "echo", "--json", stdin=content).out)
    assert bytes(tokens["ids"]).decode() == prompt
    if not {"\n", "\r"} & set(prompt):
        rows = cli(*args, "--prompts-file", file).out
        assert json.loads(rows)["text"] == prompt


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("\ufeffWhat?\n".encode("utf-16-le"), "is UTF-16; expected UTF-8: iconv -f UTF-16"),
        ("\ufeffWhat?\n".encode("utf-16-be"), "is UTF-16; expected UTF-8: iconv -f UTF-16"),
        ("\ufeffWhat?\n".encode("utf-32-le"), "is UTF-32; expected UTF-8: iconv -f UTF-32"),
        ("What?\n".encode("utf-16-le"), "has a NUL character; expected plain text in UTF-8"),
        ("Ä".encode("latin-1"), "not UTF-8 at byte 0; convert it"),
    ],
)
def test_other_encodings_are_told_wherever_they_are_read(cli, tmp_path, content, reason):
    file = tmp_path / "prompt.txt"
    file.write_bytes(content)
    for args, stdin in (
        (["echo", "--prompt-file", file], b""),
        (["echo"], content),
        (["tokenize"], content),
        (["echo", "--quiet", "--prompts-file", file], b""),
    ):
        outcome = cli(*args, stdin=stdin)
        assert outcome.code == 1
        assert reason in outcome.err
        assert outcome.err.count("\n") == 1


def test_a_process_substitution_is_a_file():
    for option in ("--prompt-file", "--prompts-file"):
        command = f'exec "$0" "$1" echo --quiet {option} <(echo Hello)'
        args = ["bash", "-c", command, sys.executable, SCRIPT]
        text = subprocess.check_output(args, stdin=subprocess.DEVNULL, text=True)
        assert (json.loads(text)["text"] if option == "--prompts-file" else text) == "Hello"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the prompt is empty"),
        (b"\n", "the prompt is empty"),
        (b"abc\xff", "not UTF-8 at byte 3"),
        (b"x" * ((16 << 20) + 1), "more than 16 MiB"),
        (None, "No such file or directory"),
    ],
)
def test_a_file_that_is_no_prompt(cli, tmp_path, content, reason):
    file = tmp_path / "prompt.txt"
    if content is not None:
        file.write_bytes(content)
    outcome = cli("echo", "--prompt-file", file)
    assert outcome.code == 1
    assert reason in outcome.error


def test_an_endless_pipe_is_not_read_to_its_end():
    command = 'exec "$0" "$1" echo --prompt-file <(yes)'
    args = ["bash", "-c", command, sys.executable, SCRIPT]
    done = subprocess.run(args, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    assert done.returncode == 1
    assert b"more than 16 MiB" in done.stderr


def test_a_directory_is_no_prompt(cli, tmp_path):
    assert "Is a directory" in cli("echo", "--prompt-file", tmp_path).error


def test_stdin_that_is_no_prompt(process, cli):
    assert "stdin is not UTF-8 at byte 1" in process("echo", stdin=b"a\xff").error
    assert "the prompt is empty" in process("echo", stdin=b"").error
    assert "closed" in cli("echo", "--prompt", "-").error


def test_an_argument_that_is_not_utf_8(cli):
    outcome = cli("echo", "--prompt", os.fsdecode(b"a\xff"))
    assert outcome.code == 1
    assert "UTF-8" in outcome.error


def test_there_is_one_prompt(cli, tmp_path):
    outcome = cli("echo", "--prompt", "a", "--prompt-file", tmp_path)
    assert outcome.code == 2
    assert "--prompt and --prompt-file" in outcome.error
