"""Who is told what a setting is called: users its option, callers in Python its name there."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from typer.main import get_command

import pipelines
from pipelines.common.cli import generate
from pipelines.common.cli.app import app
from pipelines.common.cli.command import own_command
from pipelines.common.cli.wording import OPTIONS, SETTING, worded
from pipelines.common.errors import quoted
from pipelines.common.registry.hookspecs import PipelineRecord
from pipelines.common.registry.registry import Registry

PACKAGE = Path(pipelines.__path__[0])
LIBRARY = [
    path
    for path in sorted(PACKAGE.rglob("*.py"))
    if not path.is_relative_to(PACKAGE / "common" / "cli")
]

OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")

FIELDS_OF_RULES = {"examples", "encodings"}
"""Between backquotes in what authors of op packages are told."""


@cache
def options() -> frozenset[str]:
    """All options of the command line."""
    registry = Registry.discover()
    own = [
        own_command(entry.record, registry.load_command(name))
        for name, entry in registry.commands.items()
    ]
    a_pipeline = generate.command(PipelineRecord("any", "Any.", "any:any"))
    commands = [get_command(app), a_pipeline, *own]
    found = set[str]()
    while commands:
        command = commands.pop()
        found.update(name for parameter in command.params for name in parameter.opts)
        commands += getattr(command, "commands", {}).values()
    return frozenset(name for name in found if name.startswith("--"))


def texts(path: Path, *, documentation: bool) -> Iterator[str]:
    """The strings of a module, with its docstrings or without."""
    tree = ast.parse(path.read_text())
    documents = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and (documentation or id(node) not in documents)
        ):
            yield node.value


@pytest.mark.parametrize("path", LIBRARY, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_command_line_knows_its_options(path: Path) -> None:
    named = {name for text in texts(path, documentation=True) for name in OPTION.findall(text)}
    assert not named & options()


def test_the_command_line_has_a_word_for_every_setting_that_messages_name() -> None:
    named = {
        name
        for path in LIBRARY
        for text in texts(path, documentation=False)
        for name in SETTING.findall(text)
    }
    assert "max_length" in named
    assert "offline=True" in named
    assert named - OPTIONS.keys() <= FIELDS_OF_RULES


@pytest.mark.parametrize("words", OPTIONS.values())
def test_settings_are_told_by_options_that_exist(words: str) -> None:
    assert words.split(maxsplit=1)[0] in options()


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("raise `max_length` up to 8", "raise --max-length up to 8"),
        ("`slots` 3 is the largest", "--batch-size 3 is the largest"),
        ("leave out `native_ops=False`", "leave out --no-native-ops"),
        ("`native_ops=True` and `examples`", "`native_ops=True` and `examples`"),
        ("`strict=True` shows where", "--strict-plugins before the command shows where"),
    ],
)
def test_messages_are_worded_for_the_command_line(
    monkeypatch: pytest.MonkeyPatch, message: str, expected: str
) -> None:
    monkeypatch.delenv("PYTEST_CURRENT_TEST")  # has the parameters, as if a user had named them
    assert worded(message) == expected


NAMES = ["`{}`", "`{}`.gguf", "a `{}`'s\t.gguf", "`{}`/x"]
"""Names of files in which settings are."""


# Each setting in the one that is nothing else, and one of them in all names.
@pytest.mark.parametrize(
    ("setting", "name"),
    [*((setting, NAMES[0]) for setting in OPTIONS), *(("max_length", name) for name in NAMES[1:])],
)
def test_the_name_of_a_file_is_no_setting(cli, monkeypatch, tmp_path, setting, name):
    monkeypatch.chdir(tmp_path)
    named = name.format(setting)
    assert f"`{setting}`" in cli("inspect", named).err
    assert worded(f"there is no {named!r}") == f"there is no {named!r}"
    unnamed = quoted(f"of a file: {named}")
    monkeypatch.setattr(sys, "argv", ["run_pipeline.py"])
    assert worded(unnamed) == unnamed


def test_records_of_rows_name_no_option(cli, tmp_path):
    """Files are read by others than the one who has typed the command."""
    output = tmp_path / "answers.jsonl"
    batch = ["--prompt", "a long prompt", "--prompt", "a", "--output", output, "--max-length", "4"]
    outcome = cli("echo", *batch)
    assert "raise --max-length up to" in outcome.err
    assert "raise `max_length` up to" in output.read_text()
    assert not OPTION.findall(output.read_text())
