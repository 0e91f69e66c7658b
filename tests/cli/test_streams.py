"""The standard streams: closed, full, without a reader, and used by plugins."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import os
import re
import subprocess
import threading
from itertools import combinations

import pytest
from batch_files import outcomes, records
from programs import COMMAND

from pipelines.common.cli.command import Command, own_command
from pipelines.common.registry.registry import Registry

PROMPTS = ["echo", "--prompt", "a", "--prompt", "b"]

# Whatever writes to stdout.
WRITING = {
    "text": ["echo", "--prompt", "hi"],
    "record": ["echo", "--prompt", "hi", "--json"],
    "records": PROMPTS,
    "list": ["list"],
    "list as a record": ["list", "--json"],
    "cache": ["cache", "list"],
    "help": ["--help"],
    "help of a command": ["echo", "--help"],
    "version": ["--version"],
    "completion": ["--show-completion", "bash"],
}
writing = pytest.mark.parametrize("args", WRITING.values(), ids=WRITING)

FAILURES = {
    "full": "No space left on device",
    "hung up": "Input/output error",
    "read-only": "Bad file descriptor",
    "no reader": "Broken pipe",
}


def run(*args, **options):
    """A program that has ended, whose streams are pipes unless they are given."""
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    command = [*COMMAND, *map(str, args)]
    return subprocess.run(command, **streams | options, check=False, timeout=60)


@functools.cache
def undisturbed(*args):
    """What a program writes to stdout where nothing is in its way."""
    return run(*args).stdout


def run_without(closed, *args):
    """A program that was started without some of the descriptors 0, 1 and 2."""
    redirections = " ".join(f"{number}>&-" for number in closed)
    shell = ["sh", "-c", f'exec "$@" {redirections}', "sh", *COMMAND, *map(str, args)]
    return subprocess.run(shell, stdin=subprocess.DEVNULL, capture_output=True, check=False)


@contextlib.contextmanager
def failing(how):
    """A descriptor that cannot be written to."""
    if how == "full":
        descriptor = os.open("/dev/full", os.O_WRONLY)
    elif how == "read-only":
        descriptor = os.open(os.devnull, os.O_RDONLY)
    else:
        other, descriptor = os.pipe() if how == "no reader" else os.openpty()
        os.close(other)
    yield descriptor
    os.close(descriptor)


@contextlib.contextmanager
def narrow_pipe():
    """A pipe of one page that does not block, and what a slow reader has of it in the end."""
    ours, theirs = os.pipe()
    fcntl.fcntl(theirs, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(theirs, False)
    read = bytearray()

    def reader():
        while piece := os.read(ours, 500):
            read.extend(piece)

    thread = threading.Timer(0.5, reader)
    thread.start()
    yield theirs, read
    os.close(theirs)
    thread.join()
    os.close(ours)


# Stdout that cannot be written to


@writing
def test_a_full_disk_behind_stdout_is_one_line(args):
    assert_one_line_of_a_full_disk(args)


@pytest.mark.parametrize("args", [WRITING["text"], WRITING["list"]], ids=["text", "list"])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_buffers_make_no_difference(args, unbuffered, monkeypatch):
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    assert_one_line_of_a_full_disk(args)


def assert_one_line_of_a_full_disk(args):
    with failing("full") as full:
        done = run(*args, stdout=full)
    (line,) = done.stderr.decode().splitlines()
    assert done.returncode == 1
    assert line.startswith("run_pipeline: error: cannot write to standard output: No space left on")


@pytest.mark.parametrize("how", ["hung up", "read-only"])
@pytest.mark.parametrize("args", [WRITING["text"], WRITING["list"]], ids=["text", "list"])
def test_stdout_that_fails_otherwise_is_one_line(args, how):
    with failing(how) as stdout:
        done = run(*args, stdout=stdout)
    assert done.returncode == 1
    assert done.stderr.decode() == (
        f"run_pipeline: error: cannot write to standard output: {FAILURES[how]}\n"
    )


@writing
def test_a_reader_that_is_gone_ends_the_program_without_a_word(args):
    with failing("no reader") as pipe:
        done = run(*args, stdout=pipe)
    assert (done.returncode, done.stderr) == (1, b"")


def test_a_pipe_that_does_not_block_is_waited_for():
    with narrow_pipe() as (pipe, read):
        done = run("echo", *["--prompt", "abcdefgh"] * 40, "--ordered", stdout=pipe)
    assert done.returncode == 0
    assert len(read) > 2 * 4096
    assert [row["line"] for row in records(read.decode())] == [*range(1, 41)]


# Stderr that cannot be written to, which is no reason to lose anything


@pytest.mark.parametrize("how", FAILURES)
@pytest.mark.parametrize("name", ["text", "records", "list"])
def test_what_was_asked_for_is_there_whatever_becomes_of_stderr(name, how, make_plugin):
    bad = ["--plugin-path", make_plugin("bad", "1 / 0")]  # which is told
    with failing(how) as stderr:
        done = run(*bad, *WRITING[name], stderr=stderr)
    assert done.returncode == 0
    if name == "records":
        assert [row["text"] for row in records(done.stdout.decode())] == ["a", "b"]
    else:
        assert done.stdout == (b"hi" if name == "text" else undisturbed("list"))


@pytest.mark.parametrize("how", ["full", "no reader"])
def test_errors_have_their_exit_code_whatever_becomes_of_stderr(how):
    with failing(how) as stderr:
        assert run("echo", "--nonsense", stderr=stderr).returncode == 2
        assert run("inspect", "nonsense.gguf", stderr=stderr).returncode == 1


# Streams that are closed

EVERY_COMBINATION = [closed for count in range(4) for closed in combinations((0, 1, 2), count)]


@pytest.mark.parametrize("closed", EVERY_COMBINATION, ids=str)
def test_no_file_takes_the_place_of_a_closed_stream(closed, tmp_path, make_plugin):
    bad = ["--plugin-path", make_plugin("bad", "1 / 0")]
    output = tmp_path / "answers.jsonl"
    done = run_without(closed, *bad, *PROMPTS, "--output", output)
    assert done.returncode == 0
    assert [row["text"] for row in outcomes(output)] == ["a", "b"]
    assert done.stdout == b""
    assert bool(done.stderr) == (2 not in closed)


@writing
@pytest.mark.parametrize("closed", [(1,), (0, 1, 2)], ids=str)
def test_a_closed_stdout_is_an_error(args, closed):
    done = run_without(closed, *args)
    assert done.returncode in (1, 2)
    assert done.stderr.count(b"\n") == (2 not in closed)
    assert b"closed" in done.stderr or 2 in closed


def test_a_closed_stdout_is_found_before_the_work(tmp_path):
    output = tmp_path / "answers.jsonl"
    done = run_without((1,), *PROMPTS, "--output", output, "--json")
    assert done.returncode == 2
    assert b"the figures are to go to stdout, which is closed" in done.stderr
    assert not output.exists()


@pytest.mark.parametrize("args", [WRITING["text"], WRITING["list"]], ids=["text", "list"])
@pytest.mark.parametrize("closed", [(0,), (2,), (0, 2)], ids=str)
def test_other_streams_are_not_needed(args, closed):
    done = run_without(closed, *args)
    assert done.returncode == 0
    assert done.stdout == undisturbed(*args)


# What plugins and libraries print

QUIET = """
from pipelines.common.registry.hookspecs import hookimpl

@hookimpl
def register_pipelines():
    return []
"""

# Prints wherever a plugin's code runs, in all the ways in which code can.
PRINTING = """
import atexit, ctypes, os, subprocess, sys
from pipelines.common.registry.hookspecs import PipelineRecord, hookimpl
from pipelines.echo.pipeline import EchoModel, EchoRunner

libc = ctypes.CDLL(None)

def tell(where):
    print(f"print {where}")
    os.write(1, f"write {where}\\n".encode())
    libc.puts(f"puts {where}".encode())
    subprocess.run(["echo", f"child {where}"])
    print(f"real {where}", file=sys.__stdout__, flush=True)

tell("imported")
atexit.register(tell, "ended")

class Runner(EchoRunner):
    def decode(self, tokens):
        tell("decoding")
        return super().decode(tokens)

class Model(EchoModel):
    def start(self, *, slots, max_length):
        tell("starting")
        return Runner(slots, max_length)

class Pipeline:
    def open(self, options, registry, progress):
        tell("opening")
        return Model()

@hookimpl
def register_pipelines():
    return [PipelineRecord("printing", "Prints.", load=Pipeline)]
"""


WAYS = ("print", "write", "puts", "child", "real")


@pytest.fixture
def printing(make_plugin, monkeypatch):
    monkeypatch.setenv("RUN_PIPELINE_PLUGIN_PATH", str(make_plugin("printing", PRINTING)))


@pytest.mark.usefixtures("printing")
@pytest.mark.parametrize("option", [[], ["--json"]])
def test_stdout_has_the_text_alone_whatever_a_plugin_prints(option):
    done = run("printing", "--prompt", "hi", *option)
    assert (json.loads(done.stdout)["text"] if option else done.stdout.decode()) == "hi"
    told = done.stderr.decode().splitlines()
    for where in ("imported", "opening", "starting", "decoding", "ended"):
        assert {f"{way} {where}" for way in WAYS} <= set(told)


@pytest.mark.usefixtures("printing")
def test_records_are_alone_on_stdout_whatever_a_plugin_prints():
    done = run("printing", "--prompt", "a", "--prompt", "b", "--output", "-")
    assert [row["text"] for row in records(done.stdout.decode())] == ["a", "b"]


@pytest.mark.parametrize("name", ["list", "list as a record", "help", "help of a command"])
def test_what_a_plugin_prints_is_in_no_list_or_help(name, make_plugin, monkeypatch):
    shown = []
    for said in ("def tell(where):\n    return", "def tell(where):"):
        path = make_plugin("printing", PRINTING.replace("def tell(where):", said))
        monkeypatch.setenv("RUN_PIPELINE_PLUGIN_PATH", str(path))
        done = run(*WRITING[name])
        # How long an import has taken is another time each time.
        text = done.stdout.partition(b"Plugins that slow down")[0]
        shown.append(re.sub(rb'"(import_ms|slow)": .*', b"", text))
    assert shown[0] == shown[1]
    assert b"print imported" in done.stderr


@pytest.mark.usefixtures("printing")
def test_what_a_plugin_prints_completes_no_word(monkeypatch):
    monkeypatch.setenv("_RUN_PIPELINE.PY_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "run_pipeline.py printing --target c")
    monkeypatch.setenv("COMP_CWORD", "3")
    done = run()
    assert done.stdout.decode().split() == ["cpu", "cuda", "coreml"]
    assert b"print imported" in done.stderr


def test_every_command_takes_the_streams_back():
    def commands(command):
        inner = getattr(command, "commands", None)
        if inner is None:
            return [command]
        return [each for one in inner.values() for each in commands(one)]

    registry = Registry.discover()
    own = {name: entry.record for name, entry in registry.commands.items()}
    made = (own_command(record, registry.load_command(name)) for name, record in own.items())
    found = [command for each in made for command in commands(each)]
    assert len(found) > 10
    assert all(isinstance(command, Command) for command in found)


def test_stdout_can_be_named_as_a_file(tmp_path):
    path = tmp_path / "out"
    for name in ("-", "/dev/stdout", "/dev/fd/1"):
        with path.open("wb") as out:
            done = run(*PROMPTS, "--output", name, "--quiet", stdout=out)
        assert (done.returncode, done.stderr) == (0, b"")
        assert len(records(path.read_text())) == 2


def test_warnings_of_libraries_are_for_those_who_ask(make_plugin):
    path = make_plugin("warning", "import warnings; warnings.warn('old', FutureWarning)\n" + QUIET)
    assert run("--plugin-path", path, "list").stderr == b""
    asked = run("--plugin-path", path, "list", env=os.environ | {"PYTHONWARNINGS": "default"})
    assert b"FutureWarning: old" in asked.stderr
