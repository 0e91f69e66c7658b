"""Batches that are killed, interrupted and stopped in other ways, and gone on with afterwards."""

from __future__ import annotations

import functools
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from batch_files import manifest, outcomes, records, write_rows
from echo_plugins import with_runner

SCRIPT = Path(__file__).parents[2] / "run_pipeline.py"

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
def output(tmp_path):
    return tmp_path / "answers.jsonl"


@pytest.fixture
def start(make_plugin, tmp_path):
    """Starts a batch of rows that take their time."""
    path = make_plugin("slow", SLOW)
    command = [sys.executable, SCRIPT, "--plugin-path", path, "slow", "--batch-size", "3"]
    running = []

    def start(*args, rows=ROWS, **options):
        file = write_rows(tmp_path / "prompts.jsonl", *rows)
        streams = {"stdin": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
        args = ["--prompts-file", file, *args]
        running.append(subprocess.Popen([*command, *args], **streams | options))
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.communicate()


def ended(process):
    """The exit code of a process, and what it wrote to stderr."""
    _, err = process.communicate(timeout=60)
    return process.returncode, err


def wait_until(process, reached):
    while not reached():
        assert process.poll() is None, process.stderr.read()
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
    process = start(*args)
    wait_until(process, output.exists)
    process.kill()
    process.wait()
    process = start(*args)
    wait_until(process, manifest(output).exists)
    process.kill()
    process.wait()
    for more in (1, 500, 2000, 700, 3000):  # bytes; a record has about 300
        process, before = start(*args), size(output)
        wait_until(process, lambda before=before, more=more: size(output) >= before + more)
        process.kill()
        process.wait()
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
    process = start(*args)
    wait_until(process, lambda: size(output) > 2000)
    process.kill()
    process.wait()
    assert ended(start(*args))[0] == 1
    assert [record["line"] for record in records(output.read_text())] == list(range(1, 61))
    assert outcomes(output) == undisturbed(cli, tmp_path, "--seed", "3")


@pytest.mark.parametrize("order", [[], ["--ordered"]])
def test_ctrl_c_keeps_what_is_complete_and_says_how_to_go_on(cli, start, tmp_path, output, order):
    args = ["--output", output, *order]
    process = start(*args)
    wait_until(process, lambda: size(output) > 1000)
    process.send_signal(signal.SIGINT)
    code, err = ended(process)
    done = len(records(output.read_text()))
    assert code == 130
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
    process = start("--output", output, rows=["a", "bc!d", "efg", "hi"])
    assert process.stderr.readline() == "stuck\n"
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=0.3)
    process.send_signal(signal.SIGINT)
    code, err = ended(process)
    assert (code, err) == (130, "")
    assert [record["line"] for record in records(output.read_text())] == [1]


def test_what_runs_in_the_background_does_not_notice_ctrl_c(start, output):
    ignore = functools.partial(signal.signal, signal.SIGINT, signal.SIG_IGN)
    process = start("--output", output, rows=ROWS[1:10], preexec_fn=ignore)
    wait_until(process, lambda: size(output) > 0)
    process.send_signal(signal.SIGINT)
    assert ended(process)[0] == 0
    assert len(outcomes(output)) == 9


def test_without_a_file_ctrl_c_does_not_tell_to_resume(start):
    process = start("--quiet", stdout=subprocess.PIPE)
    first = records(process.stdout.readline())
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    done = len(first + records(out))
    assert process.returncode == 130
    assert err == f"run_pipeline: interrupted: {done} of 60 rows are done\n"


def test_a_reader_that_goes_away_ends_the_run_quietly(start):
    process = start("--output", "-", "--quiet", stdout=subprocess.PIPE)
    process.stdout.readline()
    process.stdout.close()
    process.stdout = None
    assert ended(process) == (1, "")


def test_a_full_disk_loses_no_row(cli, start, tmp_path, output):
    args = ["--output", output, "--seed", "3", "--quiet"]
    limit = functools.partial(resource.setrlimit, resource.RLIMIT_FSIZE, (4000, 4000))
    code, err = ended(start(*args, preexec_fn=limit))
    assert code == 1
    assert err == (
        f"run_pipeline: error: cannot write to {output}: File too large; what is complete is kept:"
        " make room and run the same command with --resume\n"
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
