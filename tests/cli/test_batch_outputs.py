"""Outputs of a batch: gone on with, refused, or not to be written to."""

from __future__ import annotations

import json
import re

import pytest
from batch_files import manifest, outcomes


def test_an_output_that_is_there_is_refused_before_anything_is_started(
    cli, unstartable, prompts, output
):
    args = ["--prompts-file", prompts("a"), "--output", output]
    assert cli("echo", *args).code == 0
    before = output.read_bytes(), manifest(output).read_bytes()
    outcome = unstartable(*args)
    assert outcome.code == 1
    assert outcome.error.startswith(f"{output} exists; finish it with --resume")
    assert before == (output.read_bytes(), manifest(output).read_bytes())


def test_a_batch_that_is_done_is_not_started_again(unstartable, prompts, output, monkeypatch):
    args = ["--prompts-file", prompts("a", "b"), "--output", output]
    with pytest.raises(AssertionError, match="started"):
        unstartable(*args)
    assert not output.exists()
    assert not manifest(output).exists()
    with monkeypatch.context() as patch:
        patch.setenv("MAY_START", "1")
        assert unstartable(*args).code == 0
    before = output.read_bytes()
    outcome = unstartable(*args, "--resume")
    assert outcome.code == 0
    assert "2 of 2 done\n" in outcome.err
    assert output.read_bytes() == before


def test_a_batch_that_is_done_has_still_failed_where_rows_have(
    unstartable, prompts, output, monkeypatch
):
    args = ["--prompts-file", prompts("a", {}), "--output", output]
    with monkeypatch.context() as patch:
        patch.setenv("MAY_START", "1")
        assert unstartable(*args).code == 1
    before = output.read_bytes()
    outcome = unstartable(*args, "--resume")
    assert outcome.code == 1
    assert "1 of 2 rows failed" in outcome.err
    assert output.read_bytes() == before


@pytest.mark.parametrize(
    ("changed", "difference"),
    [
        (["--temperature", "0.5"], "temperature 3.0, now 0.5"),
        (["--seed", "8"], "seed 7, now 8"),
        (["--max-length", "99"], "max_length null, now 99"),
        (["--stop", "x"], 'stop [], now ["x"]'),
        (["--ordered"], "ordered false, now true"),
        (["--no-special-tokens"], "special_tokens true, now false"),
    ],
)
def test_other_settings_do_not_go_on_with_an_output(cli, prompts, output, changed, difference):
    args = ["--prompts-file", prompts("abc", "b"), "--output", output, "--temperature", "3"]
    cli("echo", *args, "--seed", "7")
    before = output.read_bytes(), manifest(output).read_bytes()
    outcome = cli("echo", *args, "--seed", "7", "--resume", *changed)
    assert outcome.code == 1
    assert f"begun with other settings: {difference}; " in outcome.error
    assert before == (output.read_bytes(), manifest(output).read_bytes())


@pytest.mark.parametrize(
    "change",
    [
        {"line": 99},
        {"line": 2},  # which is blank
        {"line": 3},  # which has its record
        {"line": 0},
        {"line": -1},
        {"line": True},
        {"line": "1"},
        {"finish_reason": None},
    ],
)
@pytest.mark.parametrize("api", [False, True])
def test_a_record_of_no_row_is_told_and_not_counted(cli, tmp_path, output, change, api):
    form = {"custom_id": "a", "method": "POST", "url": "/v1/completions"}
    rows = [
        json.dumps({**form, "custom_id": prompt, "body": {"prompt": prompt}})
        if api
        else json.dumps({"prompt": prompt})
        for prompt in ("abc", "b")
    ]
    file = tmp_path / "prompts.jsonl"
    file.write_text("\n\n".join(rows))
    args = ["--prompts-file", file, "--output", output, "--quiet", "--ordered"]
    assert cli("echo", *args).code == 0
    first, second = map(json.loads, output.read_text().splitlines())
    if api:
        line = change.get("line", "x")
        first |= {"id": f"batch_req_{line}"}
    else:
        first |= change
    output.write_text(f"{json.dumps(first)}\n{json.dumps(second)}\n")
    before = output.read_bytes()
    outcome = cli("echo", *args, "--resume")
    if api and change == {"line": "1"}:  # which is how it is written there
        assert outcome.code == 0
        return
    assert outcome.code == 1
    assert outcome.error.startswith(str(output))
    assert output.read_bytes() == before


@pytest.mark.parametrize("seed", [-1, True, 1 << 70, "5", None])
def test_a_seed_of_the_manifest_that_is_none_is_a_difference(cli, prompts, output, seed):
    args = ["--prompts-file", prompts("abc"), "--output", output]
    assert cli("echo", *args).code == 0
    content = json.loads(manifest(output).read_text())
    content["settings"]["seed"] = seed
    manifest(output).write_text(json.dumps(content))
    outcome = cli("echo", *args, "--resume")
    assert outcome.code == 1
    assert f"begun with other settings: seed {json.dumps(seed)}, now " in outcome.error


def test_other_prompts_do_not_go_on_with_an_output(cli, prompts, output):
    args = ["--output", output, "--resume"]
    cli("echo", *args, "--prompts-file", prompts("abc", "b"))
    before = output.read_bytes()
    outcome = cli("echo", *args, "--prompts-file", prompts("abd", "b", "c"))
    assert outcome.code == 1
    assert re.search(r': input "\w+", now "\w+"; rows 2, now 3; ', outcome.error)
    assert output.read_bytes() == before


def test_a_seed_that_was_drawn_is_kept(cli, prompts, output):
    file = prompts(*["abcdefgh"] * 5)
    args = ["--prompts-file", file, "--output", output, "--temperature", "4", "--batch-size", "2"]
    assert cli("echo", *args).code == 0
    whole = outcomes(output)
    lines = output.read_bytes().splitlines(keepends=True)
    output.write_bytes(b"".join(lines[:2]) + lines[2][:20])
    assert cli("echo", *args, "--resume").code == 0
    assert outcomes(output) == whole
    assert output.read_bytes().startswith(b"".join(lines[:2]))


def test_a_pipe_can_be_gone_on_with(process, output):
    args = ["--prompts-file", "-", "--output", output, "--resume", "--quiet"]
    assert process("echo", *args, stdin=b"a\nb\n").code == 0
    output.write_bytes(output.read_bytes().splitlines(keepends=True)[0])
    assert process("echo", *args, stdin=b"a\nb\n").code == 0
    assert [row["text"] for row in outcomes(output)] == ["a", "b"]
    assert "input" in process("echo", *args, stdin=b"a\nc\n").error


# What cannot be written to


@pytest.mark.parametrize("path", ["/dev/full", "/dev/null", "."])
def test_an_output_is_a_regular_file(cli, prompts, path):
    outcome = cli("echo", "--prompts-file", prompts("a"), "--output", path)
    assert outcome.code == 1
    assert outcome.error.startswith(f"{path} is no regular file")


def test_an_output_in_a_folder_that_is_not_there(cli, prompts, tmp_path):
    path = tmp_path / "gone" / "answers.jsonl"
    outcome = cli("echo", "--prompts-file", prompts("a"), "--output", path)
    assert outcome.code == 1
    assert f"cannot write {path}: No such file or directory" in outcome.error
