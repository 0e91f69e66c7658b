from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile

import pytest
from batch_files import write_rows
from echo_plugins import with_model
from program_outcome import Outcome
from programs import SCRIPT, VARIABLES

from pipelines.common.cli import main


@pytest.fixture(autouse=True)
def surroundings(monkeypatch):
    """None of the user's settings."""
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def own_cache(monkeypatch, tmp_path):
    """A cache of the test's own, where it matters what is in it; making a graph takes its time."""
    path = tmp_path / "cache"
    monkeypatch.setenv("RUN_PIPELINE_CACHE", str(path))
    return path


@pytest.fixture
def cli(monkeypatch, capsys):
    """Runs the program in this process, without stdin or with a file in its place."""

    def run(*args, stdin=None):
        monkeypatch.setattr(sys, "argv", ["run_pipeline.py", *map(str, args)])
        with tempfile.TemporaryFile() as file, pytest.raises(SystemExit) as end:
            file.write(stdin or b"")
            file.seek(0)
            given = None if stdin is None else io.TextIOWrapper(file, encoding="utf-8")
            monkeypatch.setattr(sys, "stdin", given)
            main()
        captured = capsys.readouterr()
        return Outcome(end.value.code or 0, captured.out, captured.err)

    return run


@pytest.fixture
def process():
    """Runs the program in a process of its own."""

    def run(*args, stdin=b"", **environment):
        done = subprocess.run(
            [sys.executable, SCRIPT, *map(str, args)],
            input=stdin,
            capture_output=True,
            env={**os.environ, **environment},
            timeout=60,
            check=False,
        )
        return Outcome(done.returncode, done.stdout.decode(), done.stderr.decode())

    return run


@pytest.fixture
def make_plugin(tmp_path):
    """Writes a plugin file."""

    def make(name, source):
        path = tmp_path / f"{name}.py"
        path.write_text(source)
        return path

    return make


# Is opened by anybody, started only where a variable says so.
UNSTARTABLE = with_model(
    "unstartable",
    """
class Model(EchoModel):
    def start(self, *, slots, max_length):
        assert "MAY_START" in os.environ, "started"
        return super().start(slots=slots, max_length=max_length)
""",
)


@pytest.fixture
def prompts(tmp_path):
    return lambda *rows: write_rows(tmp_path / "prompts.jsonl", *rows)


@pytest.fixture
def output(tmp_path):
    return tmp_path / "answers.jsonl"


@pytest.fixture
def unstartable(cli, make_plugin):
    path = make_plugin("unstartable", UNSTARTABLE)
    return lambda *args: cli("--plugin-path", path, "unstartable", *args)
