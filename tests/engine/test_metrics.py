"""The figures of one generation."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from pipelines.common.engine.metrics import Metrics, process_age_s
from pipelines.common.engine.request import Request
from pipelines.common.engine.sequence import TextSequence, Timings
from pipelines.common.progress import Progress
from pipelines.echo.pipeline import EchoModel


def make_sequence(prompt, max_length):
    return TextSequence(Request(prompt, max_length), EchoModel().tokenizer)


def test_figures_are_rates_of_what_was_measured():
    sequence = make_sequence(list(b"abcd"), 10)
    sequence.accept(98)
    sequence.finish("interrupted")
    progress = Progress()
    progress.seconds = {"compile": 2.0, "other": 1.0}
    progress.from_cache = {"lower"}
    sequence.timings = Timings(prefill_s=0.5, first_token_s=0.6, decode_s=0.25, decode_steps=10)
    record = Metrics.of(sequence, progress, start_to_first_token_s=3.0).as_json()
    assert record["prompt_tokens"] == 4
    assert record["generated_tokens"] == 1
    assert record["finish_reason"] == "interrupted"
    assert record["timings"] == {
        "build_s": 0.0,
        "lower_s": 0.0,
        "compile_s": 2.0,
        "load_s": 0.0,
        "from_cache": ["lower"],
        "first_token_s": 0.6,
        "start_to_first_token_s": 3.0,
        "prompt_tokens_per_s": 8.0,
        "generated_tokens_per_s": 40.0,
    }
    assert record["peak_memory_bytes"] > 1 << 20


def test_there_is_no_rate_of_nothing():
    sequence = make_sequence(list(b"abcd"), 10)
    sequence.finish("interrupted")
    record = Metrics.of(sequence, Progress(), None).as_json()
    assert record["timings"]["prompt_tokens_per_s"] is None
    assert record["timings"]["generated_tokens_per_s"] is None


def test_the_age_of_the_process_is_that_of_the_operating_system():
    age = process_age_s()
    if age is None or shutil.which("ps") is None:
        pytest.skip("needs Linux and ps")
    # `ps` counts in whole seconds.
    elapsed = subprocess.check_output(["ps", "-o", "etimes=", "-p", str(os.getpid())])
    assert abs(age - int(elapsed)) < 2


def test_the_age_of_the_process_where_the_system_does_not_tell(tmp_path):
    assert process_age_s(tmp_path / "stat") is None
