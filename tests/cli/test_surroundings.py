"""Folders and variables that a start relies on, as containers and services have them.

A run goes on without a cache and says why; commands on the cache itself fail with one line.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_models

from pipelines.common.cache import Cache

pytestmark = pytest.mark.usefixtures("own_cache")

PROGRAM = Path(__file__).with_name("several_runs.py")

CAPABILITIES = (1, 2)
"""Of Linux: to enter, read and write everything (`CAP_DAC_OVERRIDE`, `CAP_DAC_READ_SEARCH`)."""

PR_CAPBSET_DROP = 24


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_models.write_gguf(
        tmp_path_factory.mktemp("model") / "tiny.gguf", tiny_models.llama()
    )


@pytest.fixture
def run(cli, model):
    """A run that would keep a vocabulary and converted weights, and needs no graph."""

    def run(*args):
        command = ["llama3", "--model-path", model, "--prompt", "ab", "--max-new-tokens", "4"]
        return cli(*command, "--target", "torch", *args)

    return run


@pytest.fixture
def expected(run):
    """The text, with a cache of the test's own."""
    return run().out


def _named(path):
    return lambda folder, patch: patch.setenv("RUN_PIPELINE_CACHE", str(path(folder)))


def _file(folder):
    (folder / "file").touch()
    return folder / "file"


def _loop(folder):
    (folder / "loop").symlink_to("loop")
    return folder / "loop"


def _dangling(folder):
    (folder / "link").symlink_to(folder / "file" / "below")
    _file(folder)
    return folder / "link"


def _pipe(folder):
    os.mkfifo(folder / "pipe")
    return folder / "pipe"


def _no_working_directory(folder, patch):
    (folder / "gone").mkdir()
    patch.chdir(folder / "gone")
    (folder / "gone").rmdir()
    patch.setenv("RUN_PIPELINE_CACHE", "relative")
    # PyTorch's own trouble with it is another matter.
    patch.setattr(Path, "cwd", lambda: folder)


def _no_home(_folder, patch):
    def unknown(_id):
        raise KeyError

    patch.setattr(pwd, "getpwuid", unknown)
    for variable in ("HOME", "XDG_CACHE_HOME", "RUN_PIPELINE_CACHE"):
        patch.delenv(variable, raising=False)


def _no_home_for_it(folder, patch):
    _no_home(folder, patch)
    patch.setenv("RUN_PIPELINE_CACHE", "~/cache")


def _home_is_a_file(folder, patch):
    patch.delenv("RUN_PIPELINE_CACHE")
    patch.delenv("XDG_CACHE_HOME", raising=False)
    patch.setenv("HOME", str(_file(folder)))


def _xdg_is_a_file(folder, patch):
    patch.setenv("RUN_PIPELINE_CACHE", "")
    patch.setenv("XDG_CACHE_HOME", str(_file(folder)))


def _failing(module, name, number):
    def fail(*_args, **_options):
        raise OSError(number, os.strerror(number))

    return lambda _folder, patch: patch.setattr(module, name, fail)


UNUSABLE = {
    "a file": _named(_file),
    "below a file": _named(lambda folder: _file(folder) / "below"),
    "a loop": _named(_loop),
    "below a loop": _named(lambda folder: _loop(folder) / "below"),
    "a link to nowhere": _named(_dangling),
    "a pipe": _named(_pipe),
    "a device": _named(lambda _: "/dev/null"),
    "too long a name": _named(lambda folder: folder / ("x" * 300)),
    "too long a path": _named(lambda folder: folder / ("x/" * 3000)),
    "of no user": _named(lambda _: "~nosuchuser/cache"),
    "no working directory": _no_working_directory,
    "no home": _no_home,
    "no home, and named by it": _no_home_for_it,
    "a file for a home": _home_is_a_file,
    "a file for caches": _xdg_is_a_file,
    "no locks": _failing(fcntl, "flock", errno.ENOLCK),
    "no locks at all": _failing(fcntl, "flock", errno.ENOSYS),
    "locks not supported": _failing(fcntl, "flock", errno.EOPNOTSUPP),
    "only to be read": _failing(os, "mkdir", errno.EROFS),
    "full": _failing(os, "mkdir", errno.ENOSPC),
}


@pytest.mark.parametrize("surroundings_", UNUSABLE.values(), ids=UNUSABLE)
def test_a_cache_that_cannot_be_used(cli, run, expected, tmp_path, monkeypatch, surroundings_):
    monkeypatch.setenv("RUN_PIPELINE_CACHE", str(tmp_path / "unused"))
    surroundings_(tmp_path, monkeypatch)
    outcome = run()
    assert (outcome.code, outcome.out) == (0, expected)
    (notice,) = [line for line in outcome.err.splitlines() if "RUN_PIPELINE_CACHE" in line]
    assert "error" not in notice
    offline = run("--offline", "--quiet")
    assert offline.code == 1
    assert "--offline makes nothing" in offline.error
    for command in ("list", "clear"):
        outcome = cli("cache", command)
        # Where nothing is there, nothing is to be done.
        assert outcome.code == 0 or "RUN_PIPELINE_CACHE" in outcome.error


def _xdg_is_relative(folder, patch):
    patch.setenv("RUN_PIPELINE_CACHE", "")
    patch.setenv("XDG_CACHE_HOME", "relative")
    patch.setenv("HOME", str(folder / "home"))


def _nothing_is_said(folder, patch):
    for variable in ("RUN_PIPELINE_CACHE", "XDG_CACHE_HOME", "TMPDIR", "LANG", "LC_ALL", "TERM"):
        patch.delenv(variable, raising=False)
    patch.setenv("HOME", str(folder / "home"))


USABLE = {
    "a relative folder for caches": _xdg_is_relative,
    "nothing is said": _nothing_is_said,
    "a name that is not text": _named(lambda folder: folder / "\udcff"),
    "a name of several lines": _named(lambda folder: folder / "a\nb"),
    "no room": lambda _, patch: patch.setenv("RUN_PIPELINE_CACHE_LIMIT", "0"),
    "all the room there is": lambda _, patch: patch.setenv("RUN_PIPELINE_CACHE_LIMIT", "9" * 99),
}


@pytest.mark.parametrize("surroundings_", USABLE.values(), ids=USABLE)
def test_a_cache_that_can_be_used(cli, run, expected, tmp_path, monkeypatch, surroundings_):
    surroundings_(tmp_path, monkeypatch)
    outcome = run()
    assert (outcome.code, outcome.out) == (0, expected)
    assert "RUN_PIPELINE_CACHE" not in outcome.err
    assert Cache.default().entries()
    assert cli("cache", "list").code == 0
    assert cli("cache", "clear").code == 0
    assert Cache.default().entries() == []


def test_without_a_working_directory_torch_is_not_imported(run, tmp_path, monkeypatch):
    """MKL would end the process; everything else runs."""
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert run("--quiet", "--target", "cpu").code == 0
    outcome = run("--quiet", "--target", "torch")
    assert outcome.code == 2
    assert outcome.error.startswith("the working directory cannot be used (No such file")


def _bound_by_permissions():
    """Called in a child: takes from the superuser the right to enter every folder."""
    for capability in CAPABILITIES:
        if os.geteuid() == 0 and ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, capability, 0, 0, 0):
            raise OSError


@pytest.fixture
def bound():
    """Runs command lines in a process that is bound by permissions; what becomes of each."""
    if os.geteuid() == 0 and sys.platform != "linux":
        pytest.skip("the superuser may enter every folder")

    def run(*commands, umask=-1, **environment):
        try:
            done = subprocess.run(
                [sys.executable, PROGRAM, json.dumps(commands)],
                stdout=subprocess.PIPE,
                env={**os.environ, **environment},
                umask=umask,
                preexec_fn=_bound_by_permissions,
                timeout=60,
                check=False,
            )
        except subprocess.SubprocessError:
            pytest.skip("the superuser may enter every folder, and that cannot be changed here")
        return json.loads(done.stdout)

    return run


def _private(folder):
    (folder / "private" / "cache").mkdir(parents=True)
    (folder / "private" / "cache").chmod(0)
    return folder / "private" / "cache"


def _read_only(folder):
    (folder / "read-only").mkdir()
    (folder / "read-only").chmod(0o500)
    return folder / "read-only"


def _private_entries(folder):
    (folder / "cache" / "tokenizer").mkdir(parents=True)
    (folder / "cache" / "tokenizer").chmod(0)
    return folder / "cache"


def _private_lock(folder):
    (folder / "cache").mkdir()
    (folder / "cache" / "lock").touch()
    (folder / "cache" / "lock").chmod(0)
    return folder / "cache"


FORBIDDEN = {
    "may not be entered": lambda folder: {"RUN_PIPELINE_CACHE": _private(folder)},
    "within what may not be entered": lambda folder: {
        "RUN_PIPELINE_CACHE": _private(folder) / "cache"
    },
    "may not be written": lambda folder: {"RUN_PIPELINE_CACHE": _read_only(folder)},
    "within what may not be written": lambda folder: {
        "RUN_PIPELINE_CACHE": _read_only(folder) / "cache"
    },
    "entries may not be read": lambda folder: {"RUN_PIPELINE_CACHE": _private_entries(folder)},
    "the lock may not be taken": lambda folder: {"RUN_PIPELINE_CACHE": _private_lock(folder)},
    "home of another user": lambda folder: {
        "RUN_PIPELINE_CACHE": "",
        "XDG_CACHE_HOME": "",
        "HOME": _private(folder),
    },
    "caches of another user": lambda folder: {
        "RUN_PIPELINE_CACHE": "",
        "XDG_CACHE_HOME": _private(folder),
    },
}


@pytest.mark.parametrize("forbidden", FORBIDDEN.values(), ids=FORBIDDEN)
def test_a_cache_that_is_not_ours(bound, model, tmp_path, forbidden):
    environment = {name: str(value) for name, value in forbidden(tmp_path).items()}
    commands = [
        ["tokenize", "--text", "x", "--model-path", str(model)],
        ["cache", "list"],
        ["cache", "clear"],
    ]
    for args, (code, _, err) in zip(commands, bound(*commands, **environment), strict=True):
        assert code == 0 or (code == 1 and args[0] == "cache")
        if args[0] == "tokenize" or code:
            (line,) = err.splitlines()
            assert "Permission denied" in line
            assert "RUN_PIPELINE_CACHE" in line


def test_files_that_nobody_may_read(bound, model, tmp_path):
    """A mask of 0777 leaves even their owner without rights."""
    command = ["tokenize", "--text", "x", "--model-path", str(model)]
    (done,) = bound(command, umask=0o777, RUN_PIPELINE_CACHE=str(tmp_path / "cache"))
    code, _, err = done
    assert code == 0
    (line,) = err.splitlines()
    assert "Permission denied" in line
