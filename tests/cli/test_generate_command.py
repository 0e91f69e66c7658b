"""The command of a pipeline, on the one that repeats its prompt."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from echo_plugins import slow_to_start, with_runner
from programs import SCRIPT, Program

from pipelines.common.text.tokenizer import Tokenizer

# Writes a line to stderr at its fourth token, and then waits for a line of stdin.
STUCK = with_runner(
    "stuck",
    """
class Runner(EchoRunner):
    def decode(self, tokens):
        logits = super().decode(tokens)
        if len(self._tokens[0]) - self._prompt_lengths[0] == 3:
            print("stuck", file=sys.stderr, flush=True)
            sys.stdin.readline()
        return logits
""",
)

# Tells what the driver asked of it.
TELLING = """
from pipelines.common.registry.hookspecs import PipelineRecord, hookimpl
from pipelines.echo.pipeline import EchoModel, EchoRunner

class Runner(EchoRunner):
    calls = []

    def prefill(self, slot, tokens, start=0):
        self.calls.append("prefill")
        return super().prefill(slot, tokens, start)

    def decode(self, tokens):
        self.calls.append("decode")
        return super().decode(tokens)

class Model(EchoModel):
    def __init__(self, options, progress):
        super().__init__()
        self.options, self.progress, self.lengths = options, progress, []

    def start(self, *, slots, max_length):
        with self.progress.phase("build", "Building"):
            self.progress.from_cache.add("build")
        self.progress.notice("a notice")
        self.progress.detail("a detail")
        self.runner = Runner(slots, max_length)
        return self.runner

    def describe(self):
        runner = self.runner
        return {"slots": runner.slots, "max_length": runner.max_length, "calls": runner.calls,
                "options": {name: str(value) for name, value in vars(self.options).items()}}

class Pipeline:
    def open(self, options, registry, progress):
        return Model(options, progress)

@hookimpl
def register_pipelines():
    return [PipelineRecord("telling", "Tells.", load=Pipeline)]
"""


@pytest.fixture
def telling(cli, make_plugin):
    path = make_plugin("telling", TELLING)
    return lambda *args: cli("--plugin-path", path, "telling", *args)


def test_the_text_alone_is_on_stdout_and_the_figures_on_stderr(cli):
    outcome = cli("echo", "--prompt", "Grüße, 日本 👩‍🚀")
    assert outcome.code == 0
    assert outcome.out == "Grüße, 日本 👩‍🚀"
    for figure in ("prompt", "output", "start-up", "first token", "peak memory"):
        assert f"\n{figure} " in "\n" + outcome.err


def test_quiet_leaves_stderr_empty(cli):
    assert cli("echo", "--prompt", "hi", "--quiet").err == ""


def test_notices_details_and_figures(telling):
    plain, quiet, verbose = (
        telling("--prompt", "hi", *o) for o in ([], ["--quiet"], ["--verbose"])
    )
    assert "run_pipeline: a notice\n" in plain.err
    assert "a detail" not in plain.err
    assert "build 0.00 s (cached), lower 0.00 s," in plain.err
    assert quiet.err == ""
    assert "run_pipeline: a notice\n" in verbose.err
    assert "run_pipeline: a detail\n" in verbose.err
    assert "slots: 1" in verbose.err


def test_json_is_one_record(telling):
    outcome = telling("--prompt", "héllo", "--max-new-tokens", "4", "--json")
    record = json.loads(outcome.out)
    assert record["text"] == "hél"
    assert record["prompt_tokens"] == 6
    assert record["generated_tokens"] == 4
    assert record["finish_reason"] == "length"
    timings = record["timings"]
    assert timings["from_cache"] == ["build"]
    assert timings["lower_s"] == timings["compile_s"] == timings["load_s"] == 0
    for figure in ("build_s", "first_token_s", "prompt_tokens_per_s", "generated_tokens_per_s"):
        assert timings[figure] > 0
    assert record["peak_memory_bytes"] > 1 << 20
    assert record["slots"] == 1


def test_options_reach_the_model(telling, tmp_path):
    args = ["--model-path", tmp_path / "m", "--tokenizer-path", tmp_path / "t", "--threads", "1"]
    args += ["--quantization-encoding", "q8_0", "--target", "torch", "--prompt", "hi", "--json"]
    args += [
        "--custom-ops-path",
        "a",
        "--custom-ops-path",
        "b",
        "--no-native-ops",
        "--pack-cache",
        "--weights",
        "heap",
    ]
    assert json.loads(telling(*args).out)["options"] == {
        "model_path": str(tmp_path / "m"),
        "tokenizer_path": str(tmp_path / "t"),
        "encoding": "q8_0",
        "target": "torch",
        "device": "0",
        "threads": "1",
        "custom_ops": str((Path("a"), Path("b"))),
        "native_ops": "False",
        "weights": "heap",
        "pack_cache": "True",
        "registered_ops": "True",
        "offline": "False",
        "random": "None",
    }


@pytest.mark.parametrize(
    ("limits", "length"),
    [([], 4 + 256), (["--max-new-tokens", "3"], 7), (["--max-length", "6"], 6)],
)
def test_the_runner_is_made_as_long_as_needed(telling, limits, length):
    record = json.loads(telling("--prompt", "text", "--json", *limits).out)
    assert record["max_length"] == length
    assert record["prompt_tokens"] + record["generated_tokens"] <= length


def test_warm_ups_run_the_prompt_and_one_step_each(telling):
    record = json.loads(telling("--prompt", "abc", "--num-warmups", "2", "--json").out)
    assert record["calls"] == ["prefill", "decode"] * 2 + ["prefill"] + ["decode"] * 3
    assert record["text"] == "abc"


def test_stop_strings_are_not_printed(cli):
    args = ["--prompt", "one two three", "--stop", "three", "--stop", "o t"]
    assert cli("echo", *args, "--quiet").out == "one tw"
    assert json.loads(cli("echo", *args, "--json").out)["finish_reason"] == "stop"


def test_control_tokens_in_the_prompt_are_meant_unless_told_otherwise(cli):
    args = ["--prompt", "a<|end_of_text|>b", "--quiet"]
    assert cli("echo", *args).out == "a"
    assert cli("echo", *args, "--no-special-tokens").out == "a<|end_of_text|>b"


def test_same_seed_same_text(cli):
    def text(*args):
        return json.loads(
            cli("echo", "--prompt", "abc" * 9, "--temperature", "3", "--json", *args).out
        )

    first = text()
    assert text("--seed", first["sampling"]["seed"])["text"] == first["text"]
    assert text("--seed", "1")["text"] != text("--seed", "2")["text"]


# Wrong values


def test_a_prompt_beyond_the_context_names_both_numbers(cli):
    outcome = cli("echo", "--prompt", "x" * 5000)
    assert outcome.code == 1
    assert "5000" in outcome.error
    assert "4096" in outcome.error


def test_a_prompt_far_beyond_the_context_is_not_tokenized(cli, tmp_path, monkeypatch):
    """Not even in a batch, where it is the error of its row."""
    long = "x" * (8 << 20)
    file = tmp_path / "prompt.txt"
    file.write_text(f"{long}\na\n")
    lengths = []
    encode = Tokenizer.encode

    def noted(tokenizer, text, **options):
        lengths.append(len(text))
        return encode(tokenizer, text, **options)

    monkeypatch.setattr(Tokenizer, "encode", noted)
    outcome = cli("echo", "--prompt-file", file)
    assert outcome.code == 1
    assert "the prompt has at least 559241 tokens" in outcome.error
    assert "limited to 4096" in outcome.error
    outcome = cli("echo", "--prompts-file", file, "--ordered", "--quiet")
    first, second = map(json.loads, outcome.out.splitlines())
    assert first["error"].startswith("line 1: the prompt has at least 559241 tokens")
    assert second["text"] == "a"
    assert set(lengths) == {1}


def test_a_length_beyond_the_context_names_both_numbers(cli):
    outcome = cli("echo", "--prompt", "x", "--max-length", "5000")
    assert outcome.code == 2
    assert "--max-length is 5000" in outcome.error
    assert "4096" in outcome.error


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        (["--top-p", "2"], "--top-p is 2.0"),
        (["--temperature", "nan"], "--temperature is nan"),
        (["--stop", ""], "--stop has an empty text"),
        (["--target", "cpv"], "unknown target 'cpv', did you mean 'cpu'?"),
        (["--model-path", "x.gguf"], "leave out --model-path"),
    ],
)
def test_wrong_values_are_wrong_usage_in_one_line(cli, args, reason):
    outcome = cli("echo", "--prompt", "hi", *args)
    assert outcome.code == 2
    assert reason in outcome.error


def test_encodings_that_nothing_is_converted_to_are_wrong_usage_in_one_line(cli):
    outcome = cli("echo", "--prompt", "hi", "--quantization-encoding", "q4_k")
    assert (outcome.code, outcome.out) == (2, "")
    assert "q4_k: files in it run as they are, and nothing is converted to it" in outcome.error


@pytest.mark.parametrize(
    "args", [["--quantization-encoding", "q9_0"], ["--threads", "0"], ["--max-new-tokens", "many"]]
)
def test_values_that_do_not_parse_are_wrong_usage(cli, args):
    outcome = cli("echo", "--prompt", "hi", *args)
    assert (outcome.code, outcome.out) == (2, "")
    assert args[0] in outcome.err


# Interrupts, pipes and terminals


@pytest.fixture
def stuck(make_plugin):
    """A generation that has written three tokens and is computing the fourth."""
    path = make_plugin("stuck", STUCK)
    running = []

    def start(*args):
        running.append(Program("--plugin-path", path, "stuck", "--prompt", "abcdef", *args))
        running[-1].err.wait_for("stuck\n")
        return running[-1]

    yield start
    for program in running:
        program.kill()


def test_text_is_there_before_the_generation_ends(stuck):
    assert stuck().out.wait_for("abc") == "abc"


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_an_interrupt_keeps_what_was_generated(stuck, number, code):
    program = stuck()
    program.signal(number)
    ended, out, err = program.ended()
    assert (ended, out) == (code, "abcd")  # the token that was being computed as well
    assert ", interrupted\n" in err
    assert "Traceback" not in err


def test_ctrl_c_leaves_a_record(stuck):
    program = stuck("--json", "--quiet", "--stop", "dex")
    program.signal(signal.SIGINT)
    code, out, err = program.ended()
    record = json.loads(out)
    assert (code, err) == (130, "stuck\n")
    assert (record["text"], record["finish_reason"]) == ("abcd", "interrupted")


def test_a_second_ctrl_c_does_not_wait_for_the_next_token(stuck):
    program = stuck()
    program.signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        program.process.wait(timeout=0.3)
    program.signal(signal.SIGINT)
    assert program.ended() == (130, "abc", "stuck\n")


def test_a_reader_that_goes_away_is_no_traceback():
    command = [sys.executable, SCRIPT, "echo", "--prompt", "hi", "--quiet"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(timeout=60) == 1


def test_on_a_terminal_the_text_ends_with_a_newline():
    ours, theirs = os.openpty()
    command = [sys.executable, SCRIPT, "echo", "--prompt", "hi", "--quiet"]
    subprocess.run(command, stdout=theirs, check=True, timeout=60)
    assert os.read(ours, 100) == b"hi\r\n"
    os.close(ours)
    os.close(theirs)


def test_what_takes_long_is_shown_on_a_terminal(process, make_plugin):
    path = make_plugin("slow", slow_to_start("slow", 0.8))
    ours, theirs = os.openpty()
    command = [sys.executable, SCRIPT, "--plugin-path", path, "slow", "--prompt", "hi"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=theirs, check=True, timeout=60)
    assert done.stdout == b"hi"
    assert b"Building something" in os.read(ours, 10_000)
    os.close(ours)
    os.close(theirs)
    outcome = process("--plugin-path", path, "slow", "--prompt", "hi")
    assert "Building something" not in outcome.err
    assert "\x1b" not in outcome.err


def test_an_op_package_that_is_none(cli, tmp_path):
    outcome = cli("llama3", "--quiet", "--custom-ops-path", tmp_path / "gone", "--prompt", "hi")
    assert outcome.code == 1
    assert outcome.error == f"no such op package: {tmp_path / 'gone'}"
