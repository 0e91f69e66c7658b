"""The command that scores a text."""

from __future__ import annotations

import json
import math

import pytest

from pipelines.llama3.pipeline import BUNDLED

TEXT = "Once upon a time there was a little girl named Lily. She liked to play outside. " * 20
RUN = ("perplexity", BUNDLED, "--context", 32, "--chunks", 4)


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(TEXT)
    return path


def test_a_model_and_what_it_is_compared_with(cli, text):
    args = (*RUN[:2], text, *RUN[2:], "--quantization-encoding", "q4_0", "--compare", BUNDLED)
    record = json.loads(cli(*args, "--json").out)
    assert record["windows"] == 4
    assert record["scored_tokens"] == 4 * 15
    assert record["quantization_encoding"] == "q4_0"
    alone = json.loads(cli(*RUN[:2], text, *RUN[2:], "--json").out)
    assert "reference" not in alone
    reference = record["reference"]
    assert reference["perplexity"] == pytest.approx(alone["perplexity"], rel=1e-12)
    assert 0 < reference["kl_divergence"] < 1
    assert 0.5 < reference["same_top"] <= 1
    lines = cli(*args).out.splitlines()
    assert lines[0].startswith(f"perplexity             {record['perplexity']:.4f} ± ")
    assert lines[-1] == f"same likeliest token   {100 * reference['same_top']:.2f} %"


def test_a_model_is_as_it_is_itself(cli, text):
    outcome = cli(*RUN[:2], text, *RUN[2:], "--compare", BUNDLED, "--json")
    reference = json.loads(outcome.out)["reference"]
    assert (reference["kl_divergence"], reference["same_top"]) == (0, 1)
    assert math.isfinite(reference["perplexity"])


def test_text_from_stdin(process, text):
    outcome = process(*RUN[:2], "-", *RUN[2:], stdin=text.read_bytes())
    assert outcome.out == process(*RUN[:2], text, *RUN[2:]).out


def test_what_cannot_be_scored(cli, text, tmp_path):
    outcome = cli("perplexity", BUNDLED, tmp_path / "no.txt")
    assert outcome.code == 1
    assert "cannot read the text from" in outcome.error
    text.write_text("Once upon a time")
    outcome = cli("perplexity", BUNDLED, text)
    assert outcome.code == 2
    assert "tokens, fewer than the" in outcome.error
    assert "give a longer text, or make --context smaller" in outcome.error
    outcome = cli("perplexity", BUNDLED, text, "--context", 1 << 20)
    assert outcome.code == 2
    assert "make --context smaller" in outcome.error
