from __future__ import annotations

import json

ECHO = ("tokenize", "--pipeline", "echo")


def test_ids_and_pieces_one_a_line(cli):
    lines = cli(*ECHO, "--text", "aé\n").out.splitlines()
    assert [line.split() for line in lines] == [
        ["97", "a"],
        ["195", "\\xc3"],
        ["169", "\\xa9"],
        ["10", "\\n"],
    ]


def test_ids_alone(cli):
    assert cli(*ECHO, "--text", "abc", "--ids").out == "97 98 99\n"


def test_json(cli):
    record = json.loads(cli(*ECHO, "--text", "a<|end_of_text|>", "--json").out)
    assert record == {"ids": [97, 256], "pieces": ["a", "<|end_of_text|>"]}


def test_control_tokens_as_text(cli):
    record = json.loads(
        cli(*ECHO, "--text", "<|end_of_text|>", "--no-special-tokens", "--json").out
    )
    assert bytes(record["ids"]) == b"<|end_of_text|>"


def test_text_from_stdin(process):
    assert process(*ECHO, "--ids", stdin=b"hi\n").out == "104 105\n"


def test_no_text_at_all(cli):
    outcome = cli(*ECHO)
    assert outcome.code == 1
    assert "stdin" in outcome.error


def test_an_unknown_pipeline(cli):
    outcome = cli("tokenize", "--pipeline", "eco", "--text", "x")
    assert outcome.code == 2
    assert "did you mean 'echo'" in outcome.error
