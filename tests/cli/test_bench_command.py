"""The command that measures speed."""

from __future__ import annotations

import json
import statistics

import pytest

from pipelines.llama3.pipeline import BUNDLED

RUN = ("bench", BUNDLED, "-p", 16, "-n", 8, "-r", 2)


def test_prompt_and_generation_beside_the_memory(cli):
    record = json.loads(cli(*RUN, "--json").out)
    prompt, generation = record["tests"]
    assert (prompt["test"], generation["test"]) == ("pp16", "tg8")
    for test in (prompt, generation):
        assert len(test["tokens_per_s_of_runs"]) == 2
        assert test["tokens_per_s"] == pytest.approx(statistics.mean(test["tokens_per_s_of_runs"]))
    assert "roofline_share" not in prompt
    read = json.loads(
        cli("graph", "llama3", "--context", 5, "--json", "--quantization-encoding", "auto").out
    )
    assert generation["bytes_per_token"] == sum(
        read["total"]["lowered"][what] for what in ("weights", "state")
    )
    assert generation["roofline_tokens_per_s"] == pytest.approx(
        statistics.median(generation["bandwidth_bytes_per_s"]) / generation["bytes_per_token"]
    )
    shares = [
        rate * generation["bytes_per_token"] / most
        for rate, most in zip(
            generation["tokens_per_s_of_runs"], generation["bandwidth_bytes_per_s"], strict=True
        )
    ]
    assert generation["roofline_share"] == pytest.approx(statistics.median(shares))


def test_a_table_of_what_is_asked_for(cli):
    lines = cli(*RUN[:4], "-n", 0, "-r", 1, "--threads", 1).out.splitlines()
    assert lines[0].startswith("| model | ")
    assert len(lines) == 3  # nothing of memory, which is no limit of prompts
    cells = [cell.strip() for cell in lines[2].strip("|").split("|")]
    assert cells[:5] == ["Tiny Llama 3 Stories", "auto", "cpu", "1", "pp16"]
    assert cells[5].endswith("± 0.00")


def test_where_weights_are_elsewhere_memory_is_no_limit(cli):
    (test,) = json.loads(cli(*RUN[:2], "-p", 0, *RUN[4:], "--target", "torch", "--json").out)[
        "tests"
    ]
    assert test["test"] == "tg8"
    assert "roofline_share" not in test


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("-p", 0, "-n", 0), "-p and -n are both 0; expected tokens to read or to generate"),
        (("-n", 1 << 20), "make -p or -n smaller"),
    ],
)
def test_tests_that_make_no_sense_are_refused(cli, args, message):
    outcome = cli("bench", BUNDLED, *args)
    assert outcome.code == 2
    assert message in outcome.error
