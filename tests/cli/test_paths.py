"""Every option that takes a path is given the same bad ones: one line each, and no waiting."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from program_outcome import Outcome

PROGRAM = Path(__file__).with_name("unprivileged_program.py")

PROMPT = ["--prompt", "x", "--quiet"]

READ = {
    "--plugin-path": ["--plugin-path", "{}", "list"],
    "run --model-path": ["llama3", *PROMPT, "--model-path", "{}"],
    "run --tokenizer-path": ["llama3", *PROMPT, "--tokenizer-path", "{}"],
    "run --custom-ops-path": ["llama3", *PROMPT, "--custom-ops-path", "{}"],
    "run --prompt-file": ["echo", "--quiet", "--prompt-file", "{}"],
    "run --prompts-file": ["echo", "--quiet", "--prompts-file", "{}"],
    "inspect": ["inspect", "{}"],
    "tokenize --model-path": ["tokenize", "--text", "x", "--model-path", "{}"],
    "tokenize --tokenizer-path": ["tokenize", "--text", "x", "--tokenizer-path", "{}"],
    "graph --model-path": ["graph", "llama3", "--quiet", "--model-path", "{}"],
    "graph --custom-ops-path": ["graph", "llama3", "--quiet", "--custom-ops-path", "{}"],
    "export --model-path": ["export", "llama3", "--quiet", "OUT", "--model-path", "{}"],
    "export --tokenizer-path": ["export", "llama3", "--quiet", "OUT", "--tokenizer-path", "{}"],
    "export --custom-ops-path": ["export", "llama3", "--quiet", "OUT", "--custom-ops-path", "{}"],
    "warm-cache --model-path": ["warm-cache", "llama3", "--quiet", "--model-path", "{}"],
    "warm-cache --tokenizer-path": ["warm-cache", "llama3", "--quiet", "--tokenizer-path", "{}"],
    "warm-cache --custom-ops-path": ["warm-cache", "llama3", "--quiet", "--custom-ops-path", "{}"],
    "ops list": ["ops", "list", "{}"],
    "ops check": ["ops", "check", "{}"],
    "ops build": ["ops", "build", "{}"],
}
"""What reads what is named."""

FINE = {
    ("run --prompt-file", "pipe"),  # its writer is waited for, as by any program
    ("run --prompts-file", "pipe"),
    ("--plugin-path", "folder"),  # of plugins, if of none
}
"""What is not wrong for some."""

WRITTEN = {
    "run --output": ["echo", "--quiet", "--prompt", "x", "--output", "{}"],
    "graph --svg": ["graph", "llama3", "--quiet", "--svg", "{}"],
    "graph --onnx": ["graph", "llama3", "--quiet", "--onnx", "{}"],
    "graph --neutral-onnx": ["graph", "llama3", "--quiet", "--neutral-onnx", "{}"],
    "export OUT": ["export", "llama3", "--quiet", "{}"],
}
"""What writes what is named."""


@pytest.fixture(autouse=True)
def in_a_folder_to_write_into(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def bad(tmp_path):
    """Paths that are good for nothing, by what is wrong with them."""
    (tmp_path / "file").write_text("text")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "dangling").symlink_to("nowhere/at/all")
    os.mkfifo(tmp_path / "pipe")
    # The path of a socket is short.
    with tempfile.TemporaryDirectory() as short, socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"{short}/s")
        (tmp_path / "socket").symlink_to(f"{short}/s")
        yield {
            "empty": "",
            "folder": tmp_path / "folder",
            "long name": "n" * 256,
            "long path": "n/" * 2100 + "n",
            "loop": tmp_path / "loop",
            "dangling link": tmp_path / "dangling",
            "no such user": "~nosuchuser/file",
            "pipe": tmp_path / "pipe",
            "socket": tmp_path / "socket",
            "endless device": "/dev/zero",
            "full device": "/dev/full",
            "below a file": tmp_path / "file" / "inner",
            "URL": "https://example.org/m.gguf",
            "missing": tmp_path / "missing" / "file",
            "missing model": tmp_path / "missing.gguf",
            "missing package": tmp_path / "missing.py",
            "hub": "owner/name",
            "Windows": r"C:\models\m.gguf",
        }


@contextlib.contextmanager
def no_waiting():
    """Wherein a run that does not end by itself is ended."""

    def give_up(*_):
        raise TimeoutError("it waits")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(60)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def failed(outcome):
    """The one line of a run that has failed for what it was given."""
    assert outcome.code in (1, 2), outcome
    assert len(outcome.error) < 5000
    return outcome.error


@pytest.mark.parametrize("option", READ)
def test_what_cannot_be_read(cli, bad, option):
    for what, path in bad.items():
        if (option, what) in FINE:
            continue
        with no_waiting():
            message = failed(cli(*(str(path) if word == "{}" else word for word in READ[option])))
        name = option.split()[-1]
        if what in ("empty", "URL"):
            expected = "is empty; expected a path" if what == "empty" else f"is a URL, {path}; "
            assert expected in message, (what, message)
            assert message.startswith(name) == name.startswith("--"), (what, message)
        elif what in ("folder", "socket", "Windows"):
            assert os.path.realpath(path) in message or str(path) in message, (what, message)
    assert not Path("OUT").exists()


@pytest.mark.parametrize("option", WRITTEN)
def test_what_cannot_be_written(cli, bad, option):
    wrong = ["empty", "URL", "long name", "long path", "loop", "pipe", "socket", "full device"]
    wrong += ["below a file", "folder"]
    if option != "export OUT":  # which makes the folders around it
        wrong += ["no such user", "dangling link", "missing"]
    for what in wrong:
        with no_waiting():
            failed(cli(*(str(bad[what]) if word == "{}" else word for word in WRITTEN[option])))
    assert Path("folder/file").exists()
    assert Path("file").read_text() == "text"


def test_a_folder_that_may_not_be_entered_and_names_that_are_no_text(tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0)
    commands = [
        [path if word == "{}" else word for word in args]
        for path in (f"{closed}/x.py", os.fsdecode(b"x/\xff\xfe.py"))
        # Before others find that they cannot write, they make a graph.
        for args in (*READ.values(), WRITTEN["run --output"])
    ]
    done = subprocess.run(
        [sys.executable, PROGRAM, closed, json.dumps(commands)],
        stdout=subprocess.PIPE,
        check=True,
        timeout=300,
    )
    for args, outcome in zip(commands, json.loads(done.stdout), strict=True):
        assert ".py" in failed(Outcome(*outcome)), args
