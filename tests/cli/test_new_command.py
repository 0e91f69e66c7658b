"""``new``: what it writes runs as it is, and passes the test that comes with it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from programs import ROOT, SCRIPT

SHORT = ("--prompt", "hi", "--max-new-tokens", "4")
COMMANDS = {
    "task": ("mine-own", "--random-weights", "--text", "hi"),
    "pipeline": ("mine-own", "--random-weights", *SHORT, "--quiet"),
    "op": ("llama3", "--random-weights", *SHORT, "--verbose"),
    "target": ("llama3", "--random-weights", *SHORT, "--target", "mine-own", "--verbose"),
}
SHOWN = {
    "task": "",
    "pipeline": "",
    "op": "mine-own: gated SiLU took 2 x SiLU + Mul",
    "target": "Sigmoid and Mul took 2 x SiLU",
}


@pytest.fixture
def python(tmp_path):
    """Runs Python in a process of its own, with a folder of modules more."""

    def run(*args, site=""):
        paths = [str(site), str(ROOT)] if site else [str(ROOT)]
        return subprocess.run(
            [sys.executable, *map(str, args)],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            timeout=300,
            check=False,
        )

    return run


@pytest.mark.parametrize("kind", COMMANDS)
def test_a_folder_runs_and_passes_its_test(cli, python, tmp_path, kind):
    outcome = cli("new", kind, "mine-own", "--into", tmp_path / "made")
    assert outcome.code == 0, outcome.err
    folder = tmp_path / "made" / "mine_own"
    assert [Path(line) for line in outcome.out.splitlines()] == sorted(folder.iterdir())
    assert f"test it with: pytest {folder}" in outcome.err
    assert f"try it with: run-pipeline --plugin-path {folder} " in outcome.err
    for path in (folder, folder.parent):
        ran = cli("--plugin-path", path, *COMMANDS[kind])
        assert ran.code == 0, ran.err
        assert ran.out
        assert SHOWN[kind] in ran.err
    quick = ("-k", "not stored or q4_0")  # the families that ship are tried in every encoding
    done = python("-m", "pytest", "-q", "-p", "no:cacheprovider", folder.parent, *quick)
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout


@pytest.mark.parametrize("kind", COMMANDS)
def test_a_distribution_can_be_installed(cli, python, tmp_path, kind):
    outcome = cli("new", kind, "mine-own", "--into", tmp_path, "--package", "--quiet")
    assert (outcome.code, outcome.err) == (0, "")
    folder, site = tmp_path / "mine_own", tmp_path / "site"
    # As it is, by the module's own path.
    ran = cli("--plugin-path", folder / "mine_own", *COMMANDS[kind])
    assert ran.code == 0, ran.err
    pytest.importorskip("setuptools")
    options = ("--no-build-isolation", "--no-deps", "--no-index", "--quiet", "--target", site)
    installed = python("-m", "pip", "install", *options, folder)
    assert installed.returncode == 0, installed.stderr
    ran = python(SCRIPT, *COMMANDS[kind], site=site)
    assert ran.returncode == 0, ran.stderr
    assert SHOWN[kind] in ran.stderr
    listed = python(SCRIPT, "list", site=site)
    assert "entry point (mine-own 0.1.0)" in listed.stdout
    quick = ("-k", "rules or graph or records")
    done = python("-m", "pytest", "-q", "-p", "no:cacheprovider", folder, *quick)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("package", [False, True])
@pytest.mark.parametrize("kind", COMMANDS)
def test_what_is_written_is_well_formed(cli, python, tmp_path, kind, package):
    made = cli("new", kind, "mine-own", "--into", tmp_path, *["--package"] * package)
    assert made.code == 0
    first_party = ("--config", "lint.isort.known-first-party = ['pipelines']")
    settings = ("--config", ROOT / "pyproject.toml", *first_party, "--no-cache", tmp_path)
    for command in (("check",), ("format", "--check")):
        done = python("-m", "ruff", *command, *settings)
        assert done.returncode == 0, done.stdout
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or "$" not in path.read_text()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("pipelin", "mine"), "unknown kind of plugin 'pipelin', did you mean 'pipeline'?"),
        (("pipeline", "Mine"), "'Mine' is no name for a plugin; expected lower-case letters"),
        (("pipeline", "../mine"), "'../mine' is no name for a plugin"),
        (("pipeline", "7b"), "'7b' is no name for a plugin"),
        (("pipeline", "mine-"), "'mine-' is no name for a plugin"),
        (("pipeline", "class"), "'class' is no name for a plugin"),
        (("pipeline", "graph"), "there is a command or pipeline 'graph'; take another name"),
        (("pipeline", "llama3"), "there is a command or pipeline 'llama3'; take another name"),
        (("target", "auto"), "there is a command or target 'auto'; take another name"),
        (("target", "cpu"), "there is a command or target 'cpu'; take another name"),
        (("task", "embed"), "there is a command or task 'embed'; take another name"),
        (("op", "native"), "there is a command or op 'native'; take another name"),
        (("op", "json"), "there is a Python module 'json', which Python would take for the"),
        (("op", "numpy"), "there is a Python module 'numpy'"),
    ],
)
def test_names_that_cannot_be_taken(cli, tmp_path, args, message):
    outcome = cli("new", *args, "--into", tmp_path)
    assert (outcome.code, outcome.out) == (2, "")
    assert message in outcome.err
    assert not [*tmp_path.glob("*mine*")]


def test_nothing_is_written_over(cli, tmp_path):
    (tmp_path / "mine").mkdir()
    outcome = cli("new", "pipeline", "mine", "--into", tmp_path)
    assert (outcome.code, outcome.out) == (2, "")
    assert f"{tmp_path / 'mine'} is there already; take another name, or delete it" in outcome.err
    assert not [*(tmp_path / "mine").iterdir()]


def test_a_folder_that_cannot_be_made(cli, tmp_path):
    (tmp_path / "file").write_text("")
    outcome = cli("new", "pipeline", "mine", "--into", tmp_path / "file")
    assert outcome.code == 2
    assert f"cannot write {tmp_path / 'file' / 'mine'}: Not a directory" in outcome.err or (
        "File exists" in outcome.err
    )
