"""The soak's judgement: what it reads, cuts and compares."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest

from benchmarks.soak import Differences, compare, cut_last_record, make_rows, read_output
from pipelines.common.batch.forms.rows import JsonRows
from pipelines.common.batch.row import BadRow, Row
from pipelines.common.engine.sampling import SamplingParams
from pipelines.common.requests.text import Defaults


def record(line: int, text: str = "text", shared: int = 0) -> dict[str, Any]:
    return {
        "id": f"row {line}",
        "line": line,
        "text": text,
        "shared_prompt_tokens": shared,
        "timings": {"prefill_s": 0.001 * (shared + 1)},
    }


def written(path: Path, *records: dict[str, Any]) -> Path:
    path.write_text("".join(f"{json.dumps(each)}\n" for each in records))
    return path


def test_order_timings_and_shared_tokens_make_no_difference() -> None:
    one = [record(1), record(2), record(3)]
    other = [record(3, shared=4), record(1), record(2, shared=1)]
    assert compare(3, one, other) == Differences(0, 0, 0)


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ([record(1), record(3)], Differences(1, 0, 0)),
        ([], Differences(3, 0, 0)),
        ([record(1), record(2), record(3), record(2)], Differences(0, 1, 0)),
        ([record(1), record(2, "else"), record(3)], Differences(0, 0, 1)),
        ([record(1, "else"), record(1, "else"), record(3)], Differences(1, 1, 1)),
        ([record(1), record(2) | {"id": None}, record(3)], Differences(0, 0, 1)),
        ([record(1), record(2) | {"extra": {}}, record(3)], Differences(0, 0, 1)),
    ],
)
def test_differences_are_counted(records: list[dict[str, Any]], expected: Differences) -> None:
    sound = [record(1), record(2), record(3)]
    assert compare(3, sound, records) == expected
    assert compare(3, records, sound) == expected


def test_a_row_that_both_runs_lost_is_missing() -> None:
    assert compare(3, [record(1), record(3)], [record(3), record(1)]) == Differences(1, 0, 0)


def test_no_output_holds_no_records(tmp_path: Path) -> None:
    assert read_output(tmp_path / "none.jsonl") == ([], b"")


def test_a_torn_line_is_no_record(tmp_path: Path) -> None:
    output = written(tmp_path / "records.jsonl", record(1), record(2))
    output.write_bytes(output.read_bytes()[:-1])
    assert read_output(output) == ([record(1)], json.dumps(record(2)).encode())


def test_cutting_takes_one_record_and_leaves_any_beginning_of_it(tmp_path: Path) -> None:
    lengths = set()
    for seed in range(2000):
        output = written(tmp_path / "records.jsonl", record(1), record(2))
        rest = cut_last_record(output, Random(seed))
        assert read_output(output) == ([record(1)], rest)
        lengths.add(len(rest))
    assert lengths == set(range(len(json.dumps(record(2))) + 1))


def test_a_record_alone_can_be_cut(tmp_path: Path) -> None:
    output = written(tmp_path / "records.jsonl", record(1))
    cut_last_record(output, Random(0))
    assert read_output(output)[0] == []


def test_every_50th_row_and_no_other_cannot_be_run() -> None:
    defaults = Defaults(SamplingParams(), max_new_tokens=1)
    rows = [
        JsonRows().parse(text, line, line - 1, defaults)
        for line, text in enumerate(make_rows(1000, Random(0)), 1)
    ]
    bad = {row.line for row in rows if isinstance(row, BadRow)}
    too_long = {row.line for row in rows if isinstance(row, Row) and len(row.request.prompt) > 1000}
    assert bad.isdisjoint(too_long)
    assert bad
    assert too_long
    assert bad | too_long == set(range(50, 1001, 50))
