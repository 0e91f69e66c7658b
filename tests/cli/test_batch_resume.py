"""Batches that are killed, interrupted and stopped in other ways, and gone on with afterwards."""

from __future__ import annotations

import functools
import os
import resource
import signal
import subprocess
import time

import pytest
from batch_files import manifest, outcomes, records, write_rows
from echo_plugins import with_runner
from programs import Program

# Takes 2 ms for a token, and an hour and a word on stderr for what follows a prompt's "!".
SLOW = with_runner(
    "slow",
    """
class Runner(EchoRunner):
    def decode(self, tokens):
        time.sleep(0.002)
        for token, held, prompt_length in zip(tokens, self._tokens, self._prompt_lengths):
            if token == ord("!") and token in held[:prompt_length]:
                print("stuck", file=sys.stderr, flush=True)
                time.sleep(3600)
        return super().decode(tokens)
""",
)

ROWS = [
    {"id": f"row {number}", "prompt": "abcdefgh" * (number * 7 % 5 + 1), "temperature": number % 3}
    if number % 11
    else {"id": number}
    for number in range(60)
]


@pytest.fixture
def start(make_plugin, tmp_path):
    """Starts a batch of rows that take their time."""
    plugin = ["--plugin-path", make_plugin("slow", SLOW), "slow", "--batch-size", "3"]
    running = []

    def start(*args, rows=ROWS, **options):
        file = write_rows(tmp_path / "prompts.jsonl", *rows)
        running.append(Program(*plugin, "--prompts-file", file, *args, **options))
        return running[-1]

    yield start
    for program in running:
        program.kill()


def ended(program):
    """The exit code of a program, and what it wrote to stderr."""
    code, _, err = program.ended()
    return code, err


def wait_until(program, reached):
    while not reached():
        assert program.process.poll() is None, program.err.whole()
        time.sleep(0.0005)


def size(path):
    return path.stat().st_size if path.exists() else 0


def undisturbed(cli, tmp_path, *args, rows=ROWS):
    """The outcomes of rows in a run that nobody disturbs."""
    file, path = write_rows(tmp_path / "prompts.jsonl", *rows), tmp_path / "whole.jsonl"
    cli("echo", "--prompts-file", file, "--output", path, *args)
    return outcomes(path)


def test_a_batch_that_is_killed_again_and_again_loses_no_row(cli, start, tmp_path, output):
    args = ["--output", output, "--resume", "--seed", "3", "--quiet"]
    program = start(*args)
    wait_until(program, output.exists)
    program.kill()
    program = start(*args)
    wait_until(program, manifest(output).exists)
    program.kill()
    for more in (1, 500, 2000, 700, 3000):  # bytes; a record has about 300
        program, before = start(*args), size(output)
        wait_until(program, lambda before=before, more=more: size(output) >= before + more)
        program.kill()
        kept = output.read_bytes()
        if more == 700:  # as on a full disk, or after a power failure
            output.write_bytes(kept[:-50])
    assert len(records(kept.decode())) < len(ROWS)

    code, err = ended(start(*args))
    assert (code, err.count("\n")) == (1, 1)
    assert f"6 of {len(ROWS)} rows failed" in err
    assert output.read_bytes().startswith(kept)
    assert outcomes(output) == undisturbed(cli, tmp_path, "--seed", "3")


def test_an_ordered_batch_that_is_killed_stays_in_order(cli, start, tmp_path, output):
    args = ["--output", output, "--resume", "--seed", "3", "--quiet", "--ordered"]
    program = start(*args)
    wait_until(program, lambda: size(output) > 2000)
    program.kill()
    assert ended(start(*args))[0] == 1
    assert [record["line"] for record in records(output.read_text())] == list(range(1, 61))
    assert outcomes(output) == undisturbed(cli, tmp_path, "--seed", "3")


@pytest.mark.parametrize(
    ("number", "expected", "order"),
    [
        (signal.SIGINT, 130, []),
        (signal.SIGTERM, 143, ["--ordered"]),
        (signal.SIGHUP, 129, []),
    ],
)
def test_an_interrupt_keeps_what_is_complete_and_says_how_to_go_on(
    cli, start, tmp_path, output, number, expected, order
):
    args = ["--output", output, *order]
    program = start(*args)
    wait_until(program, lambda: size(output) > 1000)
    program.signal(number)
    code, err = ended(program)
    done = len(records(output.read_text()))
    assert code == expected
    assert err.splitlines()[-1] == (
        f"run_pipeline: interrupted: {done} of 60 rows are done; run the same command with"
        " --resume for the others"
    )
    assert "Traceback" not in err
    assert f"rows         {done} of 60 done" in err

    assert ended(start(*args, "--resume"))[0] == 1
    seed = str(outcomes(output)[1]["seed"] - 1)  # which was drawn
    assert outcomes(output) == undisturbed(cli, tmp_path, "--seed", seed)


def test_a_second_ctrl_c_does_not_wait_for_the_next_token(start, output):
    program = start("--output", output, rows=["a", "bc!d", "efg", "hi"])
    program.err.wait_for("stuck\n")
    program.signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        program.process.wait(timeout=0.3)
    program.signal(signal.SIGINT)
    assert ended(program) == (130, "stuck\n")
    assert [record["line"] for record in records(output.read_text())] == [1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_what_runs_in_the_background_does_not_notice_a_signal(start, output, number):
    ignore = functools.partial(signal.signal, number, signal.SIG_IGN)
    program = start("--output", output, rows=ROWS[1:10], preexec_fn=ignore)
    wait_until(program, lambda: size(output) > 0)
    program.signal(number)
    assert ended(program)[0] == 0
    assert len(outcomes(output)) == 9


def test_without_a_file_ctrl_c_does_not_tell_to_resume(start):
    program = start("--quiet")
    program.out.wait_for("\n")
    program.signal(signal.SIGINT)
    code, out, err = program.ended()
    assert code == 130
    assert err == f"run_pipeline: interrupted: {len(records(out))} of 60 rows are done\n"


def test_a_reader_that_goes_away_ends_the_run_quietly(start):
    ours, theirs = os.pipe()
    program = start("--output", "-", "--quiet", stdout=theirs)
    os.close(theirs)
    os.read(ours, 1)
    os.close(ours)
    assert ended(program) == (1, "")


def test_a_full_disk_loses_no_row(cli, start, tmp_path, output):
    args = ["--output", output, "--seed", "3", "--quiet"]
    limit = functools.partial(resource.setrlimit, resource.RLIMIT_FSIZE, (4000, 4000))
    code, err = ended(start(*args, preexec_fn=limit))
    assert code == 1
    assert err == (
        f"run_pipeline: error: cannot write to {output}: File too large; what is complete is kept:"
        " make room and go on with --resume\n"
    )
    kept = output.read_bytes()
    assert 3000 < len(kept) <= 4000
    assert records(kept.decode())
    assert ended(start(*args, "--resume"))[0] == 1
    assert output.read_bytes().startswith(kept)
    assert outcomes(output) == undisturbed(cli, tmp_path, "--seed", "3")


def test_two_runs_do_not_write_to_one_output(start, output):
    first = start("--output", output, rows=["a", "bc!d"])
    wait_until(first, lambda: size(output) > 0)
    code, err = ended(start("--output", output, "--resume", "--quiet", rows=["a", "bc!d"]))
    assert code == 1
    assert err.startswith(f"run_pipeline: error: another run is writing to {output}")
