"""Ctrl-C, SIGTERM and SIGHUP, whenever they come."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from batch_files import records
from echo_plugins import slow_to_start, with_runner
from programs import SCRIPT, Program

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
numbers = pytest.mark.parametrize("number", CODES, ids=lambda number: number.name)

# Runs the program, and sends it SIGINT when a module is imported for the first time.
IMPORTING = """
import os, runpy, signal, sys
waited_for = {{{module!r}}}
def interrupt(event, arguments):
    if event == "import" and arguments[0] in waited_for:
        waited_for.clear()
        os.kill(os.getpid(), signal.SIGINT)
sys.addaudithook(interrupt)
sys.argv = ["run_pipeline.py", "echo", "--prompt", "hi", "--quiet"]
runpy.run_path({script!r}, run_name="__main__")
"""

# Interrupts itself where a variable says so.
INTERRUPTED = """
import atexit, os, signal, weakref
from pipelines.common.registry.hookspecs import PipelineRecord, hookimpl
from pipelines.echo.pipeline import EchoModel, EchoRunner

def at(place):
    if os.environ["PLACE"] == place:
        os.kill(os.getpid(), getattr(signal, os.environ["SIGNAL"]))

class Dying:
    def __del__(self):
        at("destructor")

at("import")
atexit.register(at, "exit")

class Runner(EchoRunner):
    def decode(self, tokens):
        at("decode")
        return super().decode(tokens)

class Model(EchoModel):
    def start(self, *, slots, max_length):
        at("start")
        dying = Dying()
        del dying
        try:
            at("converted")
        except KeyboardInterrupt:
            raise ImportError("whatever was made of it")
        return Runner(slots, max_length)

class Pipeline:
    def open(self, options, registry, progress):
        at("open")
        return Model()

@hookimpl
def register_pipelines():
    return [PipelineRecord("interrupted", "Interrupts itself.", load=Pipeline)]
"""

# Tells of each part of a prompt, and computes it when there is a line on stdin.
READING = with_runner(
    "reading",
    """
class Runner(EchoRunner):
    def prefill(self, slot, tokens, start=0):
        print(f"from {start}", file=sys.stderr, flush=True)
        sys.stdin.readline()
        return super().prefill(slot, tokens, start)
""",
)

HIDDEN, SHOWN = "\x1b[?25l", "\x1b[?25h"


@pytest.mark.parametrize(
    "module",
    [
        "pipelines.common.cli",
        "pipelines.common.cli.signals",
        "pipelines.common.cli.streams",
        "pipelines.common.cli.app",
        "typer",
        "numpy",
        "tokenizers",
    ],
)
def test_ctrl_c_while_a_module_is_imported(module):
    code = IMPORTING.format(module=module, script=str(SCRIPT))
    done = subprocess.run(
        [sys.executable, "-c", code], stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")


@pytest.mark.parametrize("place", ["import", "open", "start", "converted", "destructor", "exit"])
def test_an_interrupt_at_any_time_is_an_exit_code_and_nothing_else(place, make_plugin):
    path = make_plugin("interrupted", INTERRUPTED)
    environment = os.environ | {"PLACE": place, "SIGNAL": "SIGINT"}
    program = Program(
        "--plugin-path", path, "interrupted", "--prompt", "hi", "--quiet", env=environment
    )
    code, out, err = program.ended()
    assert (code, err) == (130, "")
    assert out == ("hi" if place == "exit" else out if place == "destructor" else "")


@numbers
@pytest.mark.parametrize("place", ["start", "exit"])
def test_each_signal_has_its_exit_code(place, number, make_plugin):
    path = make_plugin("interrupted", INTERRUPTED)
    environment = os.environ | {"PLACE": place, "SIGNAL": number.name}
    program = Program(
        "--plugin-path", path, "interrupted", "--prompt", "hi", "--quiet", env=environment
    )
    code, _, err = program.ended()
    assert (code, err) == (CODES[number], "")


@numbers
def test_the_cursor_is_shown_again_when_the_program_is_interrupted(number, make_plugin):
    args = [
        "--plugin-path",
        make_plugin("starting", slow_to_start("starting", 60)),
        "starting",
        "--prompt",
        "hi",
    ]
    program = Program(*args, terminal=["stderr"], env=os.environ | {"TERM": "xterm"})
    program.shown.wait_for("Building something")
    program.signal(number)
    assert program.ended() == (CODES[number], "", "")
    shown = program.shown.whole()
    assert shown.index(HIDDEN) < shown.rindex(SHOWN) > shown.rindex(HIDDEN)


@pytest.mark.parametrize("batch", [False, True])
def test_an_interrupt_waits_for_no_more_than_a_part_of_a_prompt(batch, make_plugin):
    args = ["--plugin-path", make_plugin("reading", READING), "reading", "--quiet"]
    program = Program(*args, *["--prompt", "x" * 2000] * (2 if batch else 1))
    program.err.wait_for("from 0\n")
    program.process.stdin.write(b"\n")
    program.process.stdin.flush()
    program.err.wait_for("from 512\n")
    program.signal(signal.SIGTERM)
    code, out, err = program.ended()
    assert code == 143
    assert err.startswith("from 0\nfrom 512\n")
    assert err.count("from") == 2
    assert records(out) == [] if batch else out == ""
