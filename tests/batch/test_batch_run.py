"""What becomes of the rows of an input, on a runner that repeats each prompt.

A prompt of n bytes takes n tokens and n further ones for its echo, so that how long a row lasts is
as long as its prompt.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.common.batch.forms.generate import PROMPTS
from pipelines.common.batch.prompts import from_file, from_texts
from pipelines.common.batch.run import BatchRun
from pipelines.common.engine.sampling import SamplingParams
from pipelines.common.errors import BatchError
from pipelines.common.requests.prompts import PromptReader
from pipelines.common.requests.text import Defaults
from pipelines.echo.pipeline import EchoModel, EchoRunner

TOKENIZER = EchoModel().tokenizer
MAX_LENGTH = 200
DEFAULTS = Defaults(SamplingParams(seed=100), max_new_tokens=50)


class Kept:
    """An output that keeps records."""

    def __init__(self):
        self.records = []

    def write(self, record):
        self.records.append(record)

    def column(self, name):
        return [record[name] for record in self.records]

    def texts(self):
        return {record["line"]: record["text"] for record in self.records}


class DamagedRunner(EchoRunner):
    """Computes no numbers once a slot holds an ``x``."""

    def _logits(self, tokens, prompt_length):
        logits = super()._logits(tokens, prompt_length)
        return logits * np.nan if ord("x") in tokens else logits


@pytest.fixture
def prompts(tmp_path):
    """Makes an input of strings, of fields, and of lines as they are."""

    def prompts(*rows):
        path = tmp_path / "prompts.jsonl"
        fields = [{"prompt": row} if isinstance(row, str) else row for row in rows]
        lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in fields]
        path.write_bytes(b"".join(line + b"\n" for line in lines))
        return opened.enter_context(from_file(path, DEFAULTS, PROMPTS))

    with ExitStack() as opened:
        yield prompts


def make_batch(prompts, *, special_tokens=True, max_length=MAX_LENGTH, **earlier):
    return BatchRun(
        prompts, PromptReader(TOKENIZER, special_tokens), max_length=max_length, **earlier
    )


def run(prompts, *, slots=2, ordered=False, **options):
    """The output of a run to its end, and its figures."""
    batch, output = make_batch(prompts, **options), Kept()
    for _ in batch.run(EchoRunner(slots, MAX_LENGTH), output, ordered=ordered):
        pass
    return output, batch.figures


# Records


def test_a_record_tells_all_of_its_row(prompts):
    output, _ = run(prompts({"id": "a", "prompt": "hé", "seed": 5, "note": [1]}, "xyz"))
    first, second = output.records
    assert first.pop("timings").keys() == second.pop("timings").keys()
    common = {"finish_reason": "stop", "shared_prompt_tokens": 0, "error": None}
    assert first == {
        **common,
        **{"id": "a", "line": 1, "text": "hé", "seed": 5, "extra": {"note": [1]}},
        **{"prompt_tokens": 3, "generated_tokens": 3},
    }
    assert second == {
        **common,
        **{"id": None, "line": 2, "text": "xyz", "seed": 101},
        **{"prompt_tokens": 3, "generated_tokens": 3},
    }


def test_why_rows_end(prompts):
    rows = [
        "abcd",
        {"prompt": "abcd", "max_new_tokens": 2},
        {"prompt": "abcd", "stop": ["x", "cd"]},
    ]
    output, _ = run(prompts(*rows), ordered=True)
    assert output.column("text") == ["abcd", "ab", "ab"]
    assert output.column("finish_reason") == ["stop", "length", "stop"]
    assert output.column("generated_tokens") == [4, 2, 4]


def test_samples_of_a_row_come_in_one_record(prompts):
    sampled = {"prompt": "one prompt", "n": 3, "temperature": 30, "seed": 7}
    alone = [{**sampled, "n": 1, "seed": 7 + index} for index in range(3)]
    output, figures = run(prompts(sampled, "b", *alone), ordered=True)
    several, _, *single = output.records
    assert [each["text"] for each in several["choices"]] == [each["text"] for each in single]
    assert len({each["text"] for each in several["choices"]}) > 1
    assert [each["seed"] for each in several["choices"]] == [7, 8, 9]
    assert several["text"] == several["choices"][0]["text"]
    assert figures.done == 5
    batch = make_batch(prompts(sampled, "b"))
    assert batch.demand() == (4, len(sampled["prompt"]) + 50)


def test_the_prompt_of_samples_is_computed_once(prompts):
    _, figures = run(prompts({"prompt": "one prompt", "n": 3}), slots=3)
    assert figures.prompt_tokens == 3 * len("one prompt")
    assert figures.shared_tokens == 2 * (len("one prompt") - 1)


def test_a_sample_that_fails_is_the_rows_failure(prompts):
    batch, output = make_batch(prompts({"prompt": "a x", "n": 3}, "b")), Kept()
    for _ in batch.run(DamagedRunner(2, MAX_LENGTH), output, ordered=False):
        pass
    assert sorted(output.column("line")) == [1, 2]
    assert batch.figures.failed == 1
    failed = next(record for record in output.records if record["line"] == 1)
    assert failed["finish_reason"] == "error"
    assert "choices" not in failed


def test_what_rows_have_in_common_is_copied(prompts):
    output, figures = run(prompts("common beginning", "common end", "another"))
    assert output.texts() == {1: "common beginning", 2: "common end", 3: "another"}
    shared = {record["line"]: record["shared_prompt_tokens"] for record in output.records}
    assert shared == {1: 0, 2: len("common "), 3: 0}
    assert figures.shared_tokens == len("common ")
    assert figures.prompt_tokens == sum(map(len, output.column("text")))


def test_seeds_count_all_rows_before_also_those_that_fail(prompts):
    output, _ = run(prompts("a", {}, {"prompt": "b", "seed": 7}, "c"), ordered=True)
    assert output.column("seed") == [100, None, 7, 103]


def test_control_tokens_can_be_meant_as_text(prompts):
    rows = prompts("a<|end_of_text|>b")
    assert run(rows)[0].column("text") == ["a"]
    assert run(rows, special_tokens=False)[0].column("text") == ["a<|end_of_text|>b"]


# Order


def test_records_come_as_rows_end(prompts):
    output, _ = run(prompts("a long prompt", "b", "cc"))
    assert output.column("line") == [2, 3, 1]


def test_ordered_records_wait_for_those_before_them(prompts):
    batch, output = make_batch(prompts("a long prompt", "b", "", "cc")), Kept()
    for figures in batch.run(EchoRunner(2, MAX_LENGTH), output, ordered=True):
        # Rows whose records wait are not done: a run that is interrupted here does them again.
        assert (figures.done, figures.failed) in [(0, 0), (4, 1)]
        assert len(output.records) == figures.done
    assert output.column("line") == [1, 2, 3, 4]


def test_rows_are_read_some_hundred_ahead_and_no_further(prompts):
    class Counted:
        """Prompts that count how many were read."""

        def __init__(self, prompts):
            self.form, self.rows, self.read = prompts.form, prompts.rows, 0
            self._prompts = prompts

        def __iter__(self):
            for row in self._prompts:
                self.read += 1
                yield row

    counted, output = Counted(prompts(*["ab"] * 1500)), Kept()
    for _ in make_batch(counted).run(EchoRunner(3, MAX_LENGTH), output, ordered=False):
        assert counted.read <= len(output.records) + 300
    assert len(output.records) == 1500


@settings(deadline=None)
@given(
    rows=st.lists(
        st.fixed_dictionaries(
            {"prompt": st.text(st.sampled_from("abc"), min_size=1, max_size=8)},
            optional={
                "temperature": st.sampled_from([0, 2, 5]),
                "top_k": st.integers(0, 5),
                "repetition_penalty": st.sampled_from([0.5, 1.0, 3.0]),
                "frequency_penalty": st.sampled_from([0, 2]),
                "xtc_probability": st.sampled_from([0, 0.5]),
                "dry_multiplier": st.sampled_from([0, 2]),
                "samplers": st.sampled_from(["top_k;temperature", ["xtc", "dry", "penalties"]]),
                "max_new_tokens": st.integers(1, 12),
                "stop": st.sampled_from(["c", "ab", ["bb", "a"]]),
                "seed": st.integers(0, 9),
            },
        ),
        min_size=1,
        max_size=8,
    ),
    slots=st.integers(1, 5),
    ordered=st.booleans(),
)
def test_no_row_notices_the_others(tmp_path_factory, rows, slots, ordered):
    path = tmp_path_factory.mktemp("rows") / "prompts.jsonl"

    def outcomes(rows, slots):
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        with from_file(path, DEFAULTS, PROMPTS) as prompts:
            output, _ = run(prompts, slots=slots, ordered=ordered)
        names = ("text", "finish_reason", "generated_tokens", "seed", "error")
        return {record["line"]: [record[name] for name in names] for record in output.records}

    together = outcomes(rows, slots)
    assert sorted(together) == list(range(1, len(rows) + 1))
    for line, row in enumerate(rows, 1):
        alone = outcomes([{"seed": DEFAULTS.sampling.seed + line - 1, **row}], 1)
        assert alone == {1: together[line]}


# Rows that fail


def test_bad_rows_are_records_and_the_others_go_on(prompts):
    bad = [b"{", {"id": "no"}, {"prompt": "p", "top_p": 2, "note": 1}, b'{"prompt": "\xff"}']
    output, figures = run(prompts("a", *bad, "b"), ordered=True)
    assert output.column("text") == ["a", None, None, None, None, "b"]
    reasons = ["not JSON", "no prompt", "top_p is 2", "not UTF-8"]
    for line, (record, reason) in enumerate(zip(output.records[1:5], reasons, strict=True), 2):
        assert record["finish_reason"] == "error"
        assert record["error"].startswith(f"line {line}: ")
        assert reason in record["error"]
        assert record.keys() - {"extra"} == output.records[0].keys()
    assert [record.get("extra") for record in output.records[1:4]] == [None, None, {"note": 1}]
    assert output.records[2]["id"] == "no"
    assert (figures.rows, figures.done, figures.failed) == (6, 6, 4)


def test_a_prompt_without_room_for_output_is_its_rows_error(prompts):
    rows = prompts("x" * 9, "x" * 10, "y" * 11, "z")
    output, figures = run(rows, max_length=10, ordered=True)
    assert output.column("text") == ["x", None, None, "z"]
    assert output.column("finish_reason") == ["length", "error", "error", "stop"]
    assert "line 2: the prompt has 10 tokens" in output.records[1]["error"]
    assert figures.failed == 2


def test_a_row_for_which_nothing_can_be_chosen_fails_alone(prompts):
    batch, output = make_batch(prompts("abcd", "axcd", "ef", "efxg", "h")), Kept()
    for _ in batch.run(DamagedRunner(2, MAX_LENGTH), output, ordered=True):
        pass
    assert output.column("text") == ["abcd", None, "ef", None, "h"]
    assert "line 2: the model computes a logit of nan" in output.records[1]["error"]
    assert batch.figures.failed == 2


def test_rows_that_all_fail_need_no_runner(prompts):
    batch, output = make_batch(prompts(b"{", {}, "x" * MAX_LENGTH)), Kept()
    assert batch.demand() == (0, 0)
    assert list(batch.run(None, output, ordered=False)) == []
    assert output.column("line") == [1, 2, 3]
    assert (batch.figures.done, batch.figures.failed) == (3, 3)


def test_an_output_that_fails_ends_the_run(prompts):
    class Full(Kept):
        def write(self, record):
            if self.records:
                raise BatchError("full")
            super().write(record)

    batch, output = make_batch(prompts("a", "b", "c")), Full()
    with pytest.raises(BatchError, match="full"):
        list(batch.run(EchoRunner(2, MAX_LENGTH), output, ordered=False))
    assert batch.figures.done == len(output.records) == 1


# Figures


@pytest.mark.parametrize(
    ("rows", "demand"),
    [
        (["abc"], (1, 53)),
        (["abc", {"prompt": "a", "max_new_tokens": 70}, "x" * 300, {}], (2, 71)),
        ([{"prompt": "a", "max_new_tokens": 1 << 62}, "b"], (2, MAX_LENGTH)),
    ],
)
def test_slots_are_as_long_as_the_longest_row_that_can_be_run(prompts, rows, demand):
    assert make_batch(prompts(*rows)).demand() == demand


def test_rows_that_have_a_record_are_left_out(prompts):
    rows = prompts("a much longer prompt", "b", "c", {}, "d")
    batch, output = make_batch(rows, done={1, 3}, failed=1), Kept()
    assert batch.demand() == (2, 51)
    assert (batch.figures.done, batch.figures.failed) == (2, 1)
    for _ in batch.run(EchoRunner(2, MAX_LENGTH), output, ordered=True):
        pass
    assert output.texts() == {2: "b", 4: None, 5: "d"}
    assert output.column("seed") == [101, None, 104]
    assert (batch.figures.done, batch.figures.failed) == (5, 2)


def test_figures_are_those_of_all_rows(prompts):
    output, figures = run(prompts("abc", "defgh", {}, "i"))
    good = [record for record in output.records if record["error"] is None]
    assert figures.generated_tokens == sum(record["generated_tokens"] for record in good) == 9
    assert figures.prompt_tokens == 9
    assert figures.generated_tokens_per_s == pytest.approx(9 / figures.seconds)
    assert json.loads(json.dumps(figures.as_json())) == figures.as_json()


def test_a_run_that_is_left_has_written_what_was_complete(prompts):
    batch, output = make_batch(prompts("a long prompt", "b", "c", "d")), Kept()
    seen = list(islice(batch.run(EchoRunner(2, MAX_LENGTH), output, ordered=False), 8))
    assert output.column("line") == [2, 3]
    assert seen[-1].done == 2
    assert seen[-1].generated_tokens > 2  # tokens of rows under way are counted as well


def test_equal_prompts_of_the_command_line_have_seeds_of_their_own():
    defaults = Defaults(SamplingParams(temperature=4, seed=3), max_new_tokens=20)
    with from_texts(("abcdefgh",) * 3, defaults, PROMPTS) as prompts:
        output, _ = run(prompts, slots=3, ordered=True)
    assert output.column("seed") == [3, 4, 5]
    assert len(set(output.column("text"))) == 3
