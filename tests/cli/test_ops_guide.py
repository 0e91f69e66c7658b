"""What the op package author's guide says happens."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
from tiny_models import llama, write_gguf

FOLDER = Path(__file__).parents[2] / "custom_ops"
GUIDE = (FOLDER / "README.md").read_text()

COMMANDS = re.findall(r"^    run-pipeline (.*)$", GUIDE, re.MULTILINE)

CAN_COMPILE = shutil.which("cmake") and any(map(shutil.which, ("c++", "g++", "clang++")))


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A folder with the examples, and the packages of the guide under the names it gives them."""
    ignore = shutil.ignore_patterns("lib*", "__pycache__")
    shutil.copytree(FOLDER / "examples", tmp_path / "custom_ops" / "examples", ignore=ignore)
    whole = [
        source
        for source in re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
        if source.startswith('"""')
    ]
    names = re.findall(r"aved? (?:this )?as `(\w+\.py)`", GUIDE)
    for name, source in zip(names, whole, strict=True):
        (tmp_path / name).write_text(source)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_command_works(cli, checkout):
    """In their order; the model is a small one, which has a SiLU in each of its two layers."""
    model = write_gguf(checkout / "model.gguf", llama())
    taken = 0
    for command in COMMANDS:
        if "silu_gate" in command and not CAN_COMPILE:
            continue
        arguments = shlex.split(command)
        if arguments[0] == "llama3":
            arguments += ["--model-path", model, "--max-new-tokens", "2", "--no-native-ops"]
        outcome = cli(*arguments)
        assert outcome.code == 0, f"{command}: {outcome.err}"
        if arguments[:2] == ["ops", "check"]:
            assert "all ok" in outcome.out
        if arguments[0] == "llama3":
            taken += 1
            assert re.search(r"(plain_silu|silu_gate): .* took 2 x SiLU", outcome.err)
    assert taken == (2 if CAN_COMPILE else 1)


@pytest.mark.usefixtures("checkout")
def test_the_table_is_as_printed(cli):
    """All but the figure of the error, which differs from machine to machine."""
    (shown,) = re.findall(r"```\n(  rule .*?)```", GUIDE, re.DOTALL)
    printed = cli("ops", "check", "plain_silu.py").out
    figure = re.compile(r"\d\.\de-\d\d(?=  )")
    assert figure.sub("", printed, count=1) == figure.sub("", shown, count=1)
