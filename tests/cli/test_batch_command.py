"""Batches on the command line, of the pipeline that repeats its prompts."""

from __future__ import annotations

import json
import re
import subprocess

import pytest
from batch_files import manifest, outcomes, records
from echo_plugins import with_model, with_runner
from programs import Program

from pipelines.common.cli import batch_display

# Tells how its runner was made.
TELLING = with_model(
    "telling",
    """
class Model(EchoModel):
    def start(self, *, slots, max_length):
        print(f"{slots} slots of {max_length}", file=sys.stderr)
        return super().start(slots=slots, max_length=max_length)
""",
)

# Takes 20 ms for a token.
SLOW = with_runner(
    "slow",
    """
class Runner(EchoRunner):
    def decode(self, tokens):
        time.sleep(0.02)
        return super().decode(tokens)
""",
)


def run_on_terminal(*args, terminal):
    """What a program writes to a terminal, its exit code, and what it writes to pipes."""
    program = Program(*args, terminal=terminal, stdin=subprocess.DEVNULL)
    ended = program.ended()
    return program.shown.whole(), ended


# Where prompts come from and records go


def test_prompts_of_the_command_line_are_records_on_stdout(cli):
    outcome = cli("echo", "--batch-size", "4", "--prompt", "A", "--prompt", "B", "--prompt", "C")
    assert outcome.code == 0
    assert [(row["line"], row["text"]) for row in records(outcome.out)] == [
        (1, "A"),
        (2, "B"),
        (3, "C"),
    ]
    assert "3 of 3 done, 0.0 s with 3 side by side" in outcome.err


def test_a_file_of_prompts_makes_a_file_of_records(cli, prompts, output):
    file = prompts({"id": "q", "prompt": "ü"}, "b")
    outcome = cli("echo", "--prompts-file", file, "--output", output, "--quiet")
    assert (outcome.code, outcome.out, outcome.err) == (0, "", "")
    assert [(row["id"], row["text"]) for row in outcomes(output)] == [("q", "ü"), (None, "b")]
    assert "ü" in output.read_text()


def test_a_pipe_of_prompts_makes_a_stream_of_records(process):
    args = ["--batch-size", "8", "--prompts-file", "-", "--output", "-"]
    outcome = process("echo", *args, stdin="één\n\n two \nthree".encode())
    assert outcome.code == 0
    assert {row["line"]: row["text"] for row in records(outcome.out)} == {
        1: "één",
        3: " two ",
        4: "three",
    }


def test_one_prompt_is_continued_as_often_as_the_batch_is_large(cli):
    args = ["--prompt", "abcdefgh", "--temperature", "4", "--seed", "7"]
    outcome = cli("echo", *args, "--batch-size", "3", "--ordered")
    rows = records(outcome.out)
    assert [row["seed"] for row in rows] == [7, 8, 9]
    assert len({row["text"] for row in rows}) == 3
    for row in rows:
        single = json.loads(cli("echo", *args, "--seed", row["seed"], "--json").out)
        assert single["text"] == row["text"]


def test_a_batch_of_one_prompt_is_that_prompt(cli):
    assert cli("echo", "--prompt", "text", "--batch-size", "1").out == "text"


def test_options_are_what_rows_do_not_say(cli, prompts):
    file = prompts("abcdef", {"prompt": "abcdef", "max_new_tokens": 5, "stop": []})
    args = ["--max-new-tokens", "3", "--stop", "bc", "--ordered"]
    rows = records(cli("echo", "--prompts-file", file, *args).out)
    assert [row["text"] for row in rows] == ["a", "abcde"]


def test_samples_of_one_prompt(cli, prompts):
    args = ["echo", "--prompt", "abcd", "--temperature", "40", "--seed", "5", "--ordered"]
    rows = records(cli(*args, "--n", "3", "--batch-size", "2").out)
    assert [row["seed"] for row in rows] == [5, 6, 7]
    assert rows[2]["text"] == records(cli(*args[:5], "--seed", "7", "--ordered").out)[0]["text"]
    outcome = cli("echo", "--prompts-file", prompts("a"), "--n", "2")
    assert outcome.code == 2
    assert "--n is for one prompt; rows of --prompts-file have a field for it, n" in outcome.error


def test_order(cli, prompts):
    args = ["--prompts-file", prompts("a long prompt", "b", "cc"), "--batch-size", "2"]
    lines = [row["line"] for row in records(cli("echo", *args).out)]
    assert lines == [2, 3, 1]
    lines = [row["line"] for row in records(cli("echo", *args, "--ordered").out)]
    assert lines == [1, 2, 3]


def test_requests_of_the_batch_api_get_its_responses(cli, prompts):
    body = {"model": "m", "prompt": "abcd", "max_tokens": 2}
    good = {"custom_id": "a", "method": "POST", "url": "/v1/completions", "body": body}
    bad = good | {"custom_id": "b", "body": body | {"echo": True}}
    outcome = cli("echo", "--prompts-file", prompts(good, bad), "--ordered")
    first, second = records(outcome.out)
    assert outcome.code == 1
    assert (first["custom_id"], first["response"]["status_code"]) == ("a", 200)
    answer = first["response"]["body"]
    assert (answer["model"], answer["object"]) == ("m", "text_completion")
    assert answer["choices"][0]["text"] == "ab"
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["total_tokens"] == 6
    assert (second["custom_id"], second["response"]["status_code"]) == ("b", 400)
    assert "line 2: echo is true" in second["response"]["body"]["error"]["message"]


def test_slots_are_no_more_and_no_longer_than_rows_need(cli, make_plugin, prompts):
    def runner(*args):
        path = make_plugin("telling", TELLING)
        return cli("--plugin-path", path, "telling", *args).err.splitlines()[0]

    file = ["--prompts-file", prompts(*["abcd"] * 9, {"prompt": "a", "max_new_tokens": 1 << 40})]
    assert runner(*file) == "8 slots of 4096"
    assert runner(*file, "--batch-size", "1024") == "10 slots of 4096"
    assert runner(*file, "--batch-size", "2", "--max-length", "100") == "2 slots of 100"
    assert runner("--prompt", "abc", "--prompt", "b") == "2 slots of 259"


# Rows that fail


def test_bad_rows_do_not_stop_the_run_but_it_ends_as_failed(cli, prompts, output):
    long = {"prompt": "x" * 5000}
    file = prompts("a", b"{", {"id": 7}, long, {"prompt": "p", "top_p": "high"}, "b")
    outcome = cli("echo", "--prompts-file", file, "--output", output)
    assert outcome.code == 1
    assert outcome.err.splitlines()[-1] == (
        "run_pipeline: 4 of 6 rows failed, see their records: line 2: not JSON at column 2: "
        "Expecting property name enclosed in double quotes"
    )
    rows = outcomes(output)
    assert [row["text"] for row in rows] == ["a", None, None, None, None, "b"]
    reasons = ["not JSON", "no prompt", "5000 tokens", 'top_p is "high"']
    for line, (row, reason) in enumerate(zip(rows[1:5], reasons, strict=True), 2):
        assert row["finish_reason"] == "error"
        assert row["error"].startswith(f"line {line}: ")
        assert reason in row["error"]


def test_when_all_rows_are_bad_nothing_is_started(unstartable, prompts, output):
    outcome = unstartable("--prompts-file", prompts(b"{", "x" * 5000), "--output", output)
    assert outcome.code == 1
    assert "2 of 2 rows failed" in outcome.err
    assert [row["line"] for row in outcomes(output)] == [1, 2]


def test_bad_rows_are_written_by_an_optimizing_interpreter_too(process, prompts):
    outcome = process("echo", "--prompts-file", prompts(b"{", {}), PYTHONOPTIMIZE="1")
    assert outcome.code == 1
    assert len(records(outcome.out)) == 2


def test_fields_that_mean_nothing_here_go_through_and_are_named(cli, prompts):
    file = prompts({"prompt": "a", "topic": {"x": 1}, "temprature": 1}, "b")
    outcome = cli("echo", "--prompts-file", file, "--ordered")
    first, second = records(outcome.out)
    assert first["extra"] == {"topic": {"x": 1}, "temprature": 1}
    assert "extra" not in second
    assert 'fields that are not known have no effect: "temprature", "topic"' in outcome.err


def test_a_line_without_end_is_that_rows_error(cli, prompts):
    file = prompts(b'{"prompt": "' + b"x" * (17 << 20) + b'"}', "b")
    rows = records(cli("echo", "--prompts-file", file, "--ordered").out)
    assert "longer than 16 MiB" in rows[0]["error"]
    assert rows[1]["text"] == "b"


# What people see


def test_the_figures_as_one_record(cli, prompts, output):
    file = prompts("abc", "abd", {})
    outcome = cli("echo", "--prompts-file", file, "--output", output, "--json")
    assert outcome.code == 1
    figures = json.loads(outcome.out)
    assert outcome.out.count("\n") == 1
    assert (figures["rows"], figures["done"], figures["failed"]) == (3, 3, 1)
    assert (figures["prompt_tokens"], figures["generated_tokens"]) == (6, 6)
    assert figures["shared_prompt_tokens"] == 2
    assert (figures["batch_size"], figures["model"]) == (2, "echo")
    assert figures["generated_tokens_per_s"] > 0
    assert figures["peak_memory_bytes"] > 1 << 20
    assert figures["timings"]["from_cache"] == []


def test_lines_where_there_is_no_terminal(cli, prompts, monkeypatch):
    args = ["--prompts-file", prompts("abcd", "efgh", {}, "i"), "--batch-size", "1", "--ordered"]
    assert " tok/s, " not in cli("echo", *args).err.split("prompts  ")[0]
    monkeypatch.setattr(batch_display, "_LINE_S", 0)
    lines = cli("echo", *args).err.splitlines()
    rate = r"[\d,]+ tok/s"
    assert re.fullmatch(f"run_pipeline: 0 of 4 rows, {rate}", lines[0])
    assert any(
        re.fullmatch(rf"run_pipeline: 3 of 4 rows \(1 failed\), {rate}, 0\.0 s left", line)
        for line in lines
    )
    assert "4 of 4 rows" not in cli("echo", *args, "--quiet").err


def test_a_bar_on_a_terminal(make_plugin, prompts, output):
    plugin = ["--plugin-path", make_plugin("slow", SLOW), "slow"]
    args = [*plugin, "--prompts-file", prompts("abcdefgh", "bcdefghij", "c"), "--batch-size", "1"]
    shown, (code, out, _) = run_on_terminal(*args, "--output", output, terminal=["stderr"])
    assert (code, out) == (0, "")
    assert "━" in shown
    assert re.search(r"1 of 3 rows, \d+ tok/s", shown)
    assert re.search(r"rows\W[^\n]*3 of 3 done", shown)
    # Records on the same terminal would be torn by it.
    shown, _ = run_on_terminal(*args, terminal=["stdout", "stderr"])
    assert "━" not in shown
    assert [row["line"] for row in records("".join(re.findall(r"{.*}\r\n", shown)))] == [1, 2, 3]
    shown, _ = run_on_terminal(*args, "--quiet", "--output", f"{output}2", terminal=["stderr"])
    assert shown == ""


def test_people_who_give_prompts_see_texts(prompts):
    args = ["echo", "--quiet", "--ordered"]
    shown, (code, _, err) = run_on_terminal(
        *args, "--prompt", "one", "--prompt", "", "--prompt", "two", terminal=["stdout"]
    )
    assert code == 1
    assert shown == "one\r\ntwo\r\n"
    assert err.splitlines() == [
        "run_pipeline: prompt 1:",
        "run_pipeline: prompt 2: prompt is empty; expected at least one character",
        "run_pipeline: prompt 3:",
        "run_pipeline: 1 of 3 rows failed, see their records: "
        "line 2: prompt is empty; expected at least one character",
    ]
    shown, _ = run_on_terminal(*args, "--prompts-file", prompts("one"), terminal=["stdout"])
    assert records(shown.replace("\r\n", "\n"))[0]["text"] == "one"


def test_equal_prompts_without_a_temperature_are_noticed(cli):
    twice = ["--prompt", "a", "--batch-size", "2"]
    notice = "equal prompts give equal texts: --temperature is 0"
    assert notice in cli("echo", *twice).err
    assert notice not in cli("echo", *twice, "--temperature", "1").err
    assert notice not in cli("echo", "--prompt", "a", "--prompt", "b").err


# Wrong usage and inputs that are none


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        (["--prompt", "a", "--prompts-file", "p"], "--prompt and --prompts-file are both given"),
        (["--prompt-file", "a", "--prompts-file", "p"], "--prompt-file and --prompts-file"),
        (["--prompt", "a", "--prompt", "b", "--prompt-file", "p"], "--prompt and --prompt-file"),
        (["--prompt", "a", "--prompt", "-"], "--prompts-file -"),
        (["--prompts-file", "p", "--num-warmups", "1"], "--num-warmups is for a single prompt"),
        (["--prompts-file", "p", "--json"], "--json needs --output FILE"),
        (["--prompts-file", "p", "--resume"], "--resume needs --output FILE"),
        (["--prompts-file", "p", "--resume", "--output", "-"], "--resume needs --output FILE"),
        (["--prompt", "a", "--resume"], "--resume needs --output FILE"),
        (["--prompts-file", "p", "--stop", ""], "--stop has an empty text"),
        (["--prompt", "a", "--prompt", "b", "--max-length", "5000"], "context is 4096"),
    ],
)
def test_wrong_usage_is_one_line(cli, args, reason):
    outcome = cli("echo", *args)
    assert outcome.code == 2
    assert reason in outcome.error


@pytest.mark.parametrize("size", [0, 1025, "many"])
def test_a_batch_has_one_to_1024_slots(cli, size):
    outcome = cli("echo", "--prompt", "a", "--batch-size", size)
    assert (outcome.code, outcome.out) == (2, "")
    assert "'--batch-size'" in outcome.err


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file or directory"),
        (b"", "holds no prompts"),
        (b"\n \n", "holds no prompts"),
        (b'[{"prompt": "a"}]', "holds a JSON array"),
        ("{}".encode("utf-16"), "is UTF-16; expected UTF-8"),
        (
            b'{"id": "a", "prompt": "p"}\n{"id": 2, "prompt": "p"}\n' * 2,
            'ids are not unique: "a" (lines 1, 3), 2 (lines 2, 4)',
        ),
    ],
)
def test_inputs_that_are_none_leave_no_output(cli, tmp_path, output, content, reason):
    file = tmp_path / "prompts.jsonl"
    if content is not None:
        file.write_bytes(content)
    outcome = cli("echo", "--prompts-file", file, "--output", output)
    assert outcome.code == 1
    assert str(file) in outcome.error
    assert reason in outcome.error
    assert not output.exists()
    assert not manifest(output).exists()


def test_folders_and_devices_are_no_prompts(cli, tmp_path):
    assert "Is a directory" in cli("echo", "--prompts-file", tmp_path).error
    assert "from /dev/zero: Is a device" in cli("echo", "--prompts-file", "/dev/zero").error
    assert "stdin, which is closed" in cli("echo", "--prompts-file", "-").error
