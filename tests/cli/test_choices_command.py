"""The command that judges a model by multiple choice."""

from __future__ import annotations

import json

import pytest
from batch_files import write_rows

from pipelines.llama3.pipeline import BUNDLED

NONSENSE = "zq xv 77 }{ bb"
ROWS = [
    {"ctx": "Once upon", "endings": [NONSENSE, "a time", "%%"], "label": 1},
    {"ctx": "Sam was a quiet", "endings": ["boy", NONSENSE], "label": "0"},
    {"ctx": "Sam was a quiet", "endings": [NONSENSE, "boy"], "label": 0},
    {"ctx": "They ran to the", "endings": ["hill", NONSENSE], "label": 0},
]


@pytest.fixture
def questions(tmp_path):
    return lambda *rows: write_rows(tmp_path / "q.jsonl", *rows)


def test_accuracy_and_its_error(cli, questions):
    outcome = cli("choices", BUNDLED, questions(*ROWS), "--json")
    record = json.loads(outcome.out)
    assert (record["acc"], record["questions"]) == (0.75, 4)
    assert record["acc_stderr"] == pytest.approx((0.75 * 0.25 / 3) ** 0.5)
    lines = cli("choices", BUNDLED, questions(*ROWS), "--limit", "2").out.splitlines()
    assert (lines[0], lines[-1]) == ("acc        1.0000 ± 0.0000", "questions  2")


def test_a_bad_row_is_one_line(cli, questions):
    outcome = cli("choices", BUNDLED, path := questions(ROWS[0], {**ROWS[1], "label": 7}))
    assert outcome.code == 1
    assert outcome.error.startswith(f"{path}, line 2: label is 7; expected the place of the right")
    outcome = cli("choices", BUNDLED, path := questions(ROWS[0], {**ROWS[1], "ctx": "a " * 600}))
    assert outcome.code == 1
    assert outcome.error.startswith(f"{path}, line 2: ctx and the longest of endings have ")
