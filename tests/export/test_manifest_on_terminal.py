"""A manifest that somebody else wrote cannot command a terminal, whatever is shown of it."""

from __future__ import annotations

import sys

import pytest

from pipelines.common.cli import main

EVIL = "\x1b[31mred\nrun_pipeline: error: forged\x9b1m\u202e"


@pytest.mark.parametrize("command", [["inspect"], ["llama3", "--prompt", "hi", "--model-path"]])
@pytest.mark.parametrize(
    "values",
    [
        {("format",): EVIL},
        {("pipeline",): EVIL},
        {("target",): EVIL},
        {("activations",): EVIL},
        {(EVIL,): 1},
        {("origin", "path"): EVIL, ("origin", "name"): EVIL, ("origin", "encoding"): EVIL},
        {("versions", EVIL): EVIL},
        {("op_packages", EVIL): EVIL},
        {("files", EVIL): {"nbytes": 1, "blake2b": EVIL}},
        {("weights", 0, "name"): EVIL},
        {("weights", 0, "dtype"): EVIL},
    ],
    ids=lambda values: "/".join(map(repr, next(iter(values)))),
)
def test_a_strange_manifest(folder, edit, values, command, monkeypatch, capsys):
    edit(values)
    monkeypatch.setattr(sys, "argv", ["run_pipeline.py", *command, str(folder)])
    with pytest.raises(SystemExit):
        main()
    captured = capsys.readouterr()
    for shown in (captured.out, captured.err):
        assert not {"\x1b", "\x9b", "\u202e"} & set(shown)
        assert "\nrun_pipeline: error: forged" not in shown
    assert "Traceback" not in captured.err
