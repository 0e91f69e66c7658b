"""Batches of the model that ships with llama3, with the project's own kernels."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny_models
from batch_files import VARYING, manifest, outcomes, records, write_rows
from tiny_models import open_model

from pipelines.common.errors import OpPackageError
from pipelines.common.program import target as target_module
from pipelines.common.registry.registry import Registry

SCRIPT = Path(__file__).parents[2] / "run_pipeline.py"

NOTICE = "a row's text may depend on the rows beside it"

STORY = "Once upon a time there was a quiet boy named Paul who lived in a small house by the"

# Rows of all lengths, of which some begin alike, and whose samplers and ends differ.
ROWS = [
    {"id": "greedy", "prompt": "The dog"},
    {"id": "stop", "prompt": STORY + " sea.", "stop": [".", " and"]},
    {"id": "warm", "prompt": STORY + " sea", "temperature": 0.9, "seed": 5},
    {"id": "long", "prompt": " ".join([STORY] * 4), "temperature": 1.2, "top_k": 20, "seed": 6},
    {"id": "one", "prompt": "A", "max_new_tokens": 1},
    {"id": "same", "prompt": STORY, "temperature": 0.8, "top_p": 0.9, "seed": 7},
    {"id": "again", "prompt": STORY, "temperature": 0.8, "top_p": 0.9, "seed": 8},
    {"id": "many", "prompt": "She said", "max_new_tokens": 60, "repetition_penalty": 1.3},
    {"id": "bad", "prompt": ""},
    {"id": "minimal", "prompt": "Paul", "temperature": 1.5, "min_p": 0.1, "seed": 9},
    {"id": "too long", "prompt": "on and " * 600},
    {"id": "part", "prompt": STORY[:30], "temperature": 1, "seed": 10, "max_new_tokens": 40},
]


@pytest.fixture(scope="session", autouse=True)
def native_library():
    """The kernels have to be there; the installation builds them where there is a compiler."""
    try:
        registry = Registry.discover()
        registry.packages.load(registry.packages.typed("native"))
    except OpPackageError as error:
        pytest.skip(f"the native kernels cannot be used: {error}")


@pytest.fixture
def batch(cli, tmp_path):
    """Runs rows; what their records say that only depends on them, by id."""

    def run(rows, *args):
        file, output = write_rows(tmp_path / "prompts.jsonl", *rows), tmp_path / "answers.jsonl"
        outcome = cli("llama3", "--prompts-file", file, "--output", output, *args)
        assert NOTICE not in outcome.err
        found = outcomes(output)
        output.unlink()
        manifest(output).unlink()
        # The line is where the row stands in this run, and errors name it.
        return {row["id"]: row | {"line": None, "error": bool(row["error"])} for row in found}

    return run


@pytest.mark.parametrize("encoding", ["q4_0", "float32"])
def test_a_rows_text_is_the_same_whatever_its_neighbours(batch, encoding):
    args = ["--quantization-encoding", encoding, "--max-new-tokens", "24", "--seed", "1"]
    expected = batch(ROWS, *args, "--batch-size", "8")
    assert [row["id"] for row in expected.values() if row["error"]] == ["bad", "too long"]
    reasons = {row["finish_reason"] for row in expected.values()}
    assert reasons == {"stop", "length", "error"}
    assert expected["same"]["text"] != expected["again"]["text"]
    seeded = [{"seed": expected[row["id"]]["seed"], **row} for row in ROWS]
    for size in (1, 3):
        assert batch(seeded, *args, "--batch-size", size) == expected
    for shuffle in range(2):
        rows = random.Random(shuffle).sample(seeded, len(seeded))
        assert batch(rows, *args, "--batch-size", 3 + shuffle) == expected
    for row in random.Random(2).sample(seeded, 5):  # nothing to copy from
        assert batch([row], *args) == {row["id"]: expected[row["id"]]}


def test_one_prompt_is_continued_as_with_each_seed_alone(cli):
    args = ["--prompt", STORY, "--temperature", "0.8", "--max-new-tokens", "20", "--quiet"]
    outcome = cli("llama3", *args, "--batch-size", "4", "--seed", "11", "--ordered")
    rows = records(outcome.out)
    assert [row["seed"] for row in rows] == [11, 12, 13, 14]
    assert len({row["text"] for row in rows}) == 4
    prompt_tokens = rows[0]["prompt_tokens"]
    assert [row["shared_prompt_tokens"] for row in rows] == [0] + 3 * [prompt_tokens - 1]
    for row in rows:
        single = json.loads(cli("llama3", *args, "--seed", row["seed"], "--json").out)
        for name in ("text", "finish_reason", "prompt_tokens", "generated_tokens"):
            assert row[name] == single[name]


def test_stock_operators_come_with_a_notice(cli):
    prompts = ["--prompt", "A", "--prompt", "B", "--max-new-tokens", "2", "--no-native-ops"]
    assert NOTICE in cli("llama3", *prompts).err
    assert NOTICE not in cli("llama3", *prompts, "--batch-size", "1").err


def test_a_pipe_of_prompts_through_a_process(process):
    args = ["--batch-size", "8", "--prompts-file", "-", "--output", "-", "--max-new-tokens", "4"]
    outcome = process("llama3", *args, stdin=b"Once upon a time\nThe dog\n")
    assert outcome.code == 0
    assert {row["line"]: row["generated_tokens"] for row in records(outcome.out)} == {1: 4, 2: 4}


def test_a_batch_larger_than_memory_names_the_largest_that_fits(cli, monkeypatch, tmp_path):
    monkeypatch.setattr(target_module, "available_memory", lambda: 64 << 20)
    file, output = tmp_path / "prompts.txt", tmp_path / "answers.jsonl"
    file.write_text("Once\n" * 500)
    args = ["--prompts-file", file, "--output", output, "--max-new-tokens", "500", "--quiet"]
    outcome = cli("llama3", *args, "--batch-size", "500")
    assert outcome.code == 1
    assert outcome.error.endswith(" is the largest that fits")
    assert not output.exists()
    assert not manifest(output).exists()
    fitting = int(outcome.error.split("--batch-size ")[1].split()[0])
    assert 1 < fitting < 500
    assert f"{fitting} is" in cli("llama3", *args, "--batch-size", fitting + 1).error
    short = ["--max-new-tokens", "1", "--max-length", "9"]
    assert cli("llama3", *args, *short, "--batch-size", "500").code == 0


def test_another_tokenizer_does_not_go_on_with_an_output(cli, tmp_path):
    tokenizer, output = tmp_path / "tokenizer.json", tmp_path / "answers.jsonl"
    open_model(None).tokenizer.vocabulary.backend.save(str(tokenizer))
    prompts = ["--prompt", STORY, "--prompt", "A", "--max-new-tokens", "2"]
    args = [*prompts, "--output", output, "--quiet"]
    assert cli("llama3", *args).code == 0
    assert cli("llama3", *args, "--tokenizer-path", tokenizer, "--resume").code == 0
    content = json.loads(tokenizer.read_text())
    del content["model"]["merges"][500:]
    tokenizer.write_text(json.dumps(content))
    outcome = cli("llama3", *args, "--tokenizer-path", tokenizer, "--resume")
    assert outcome.code == 1
    assert "begun with other settings: tokenizer " in outcome.error


def test_a_model_is_its_content_to_those_who_go_on(cli, tmp_path):
    """Not its time, nor where it lies."""
    model = tiny_models.write_gguf(tmp_path / "tiny.gguf", tiny_models.llama())
    args = ["--prompt", "ab", "--output", tmp_path / "answers.jsonl", "--max-new-tokens", "2"]
    args += ["--quiet", "--model-path"]
    assert cli("llama3", *args, model).code == 0
    os.utime(model, ns=(0, 0))
    assert cli("llama3", *args, model, "--resume").code == 0
    (tmp_path / "moved").mkdir()
    moved = shutil.copyfile(model, tmp_path / "moved" / model.name)
    assert cli("llama3", *args, moved, "--resume").code == 0
    content = bytearray(model.read_bytes())
    content[-100] ^= 1
    model.write_bytes(content)
    os.utime(model, ns=(0, 0))
    outcome = cli("llama3", *args, model, "--resume")
    assert outcome.code == 1
    assert "begun with other settings: model_fingerprint " in outcome.error


def test_other_encodings_and_kernels_do_not_go_on_with_an_output(cli, tmp_path):
    args = ["--prompt", "A", "--output", tmp_path / "answers.jsonl", "--max-new-tokens", "2"]
    args += ["--quiet"]
    assert cli("llama3", *args).code == 0
    before = (tmp_path / "answers.jsonl").read_bytes()
    changed = ["--quantization-encoding", "float32", "--no-native-ops"]
    outcome = cli("llama3", *args, "--resume", *changed)
    assert outcome.code == 1
    assert 'op_packages ["native"], now []; ' in outcome.error
    assert 'quantization_encoding "q4_0", now "float32"' in outcome.error
    assert (tmp_path / "answers.jsonl").read_bytes() == before


def test_a_batch_that_is_killed_is_finished_with_the_same_texts(cli, tmp_path):
    rows = [row | {"id": f"{row['id']} {part}"} for part in range(10) for row in ROWS]
    file = write_rows(tmp_path / "prompts.jsonl", *rows)
    output, whole = tmp_path / "answers.jsonl", tmp_path / "whole.jsonl"
    args = ["--prompts-file", file, "--seed", "3", "--quiet", "--max-new-tokens", "24"]
    cli("llama3", *args, "--output", whole)
    command = [sys.executable, SCRIPT, "llama3", *args, "--output", output, "--resume"]
    process = subprocess.Popen([str(each) for each in command], stdin=subprocess.DEVNULL)
    while process.poll() is None and not (output.exists() and output.stat().st_size > 4000):
        time.sleep(0.001)
    process.kill()
    process.wait()
    kept = output.read_bytes()
    assert 0 < len(records(kept.decode())) < len(rows)
    assert cli("llama3", *args, "--output", output, "--resume").code == 1
    assert output.read_bytes().startswith(kept)
    assert outcomes(output) == outcomes(whole)
    assert {name for name in records(kept.decode())[0] if name in VARYING} == VARYING
