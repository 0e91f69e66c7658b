"""The loop: what it asks a runner for, and when it ends."""

from __future__ import annotations

import os
import shutil
import subprocess

import numpy as np
import pytest

from pipelines.common.progress import Progress
from pipelines.common.runtime.generate import generate, warm_up
from pipelines.common.runtime.metrics import Metrics, process_age_s
from pipelines.common.runtime.sampling import SamplingParams
from pipelines.common.runtime.sequence import TextSequence, Timings
from pipelines.echo.pipeline import VOCAB_SIZE, EchoModel, EchoRunner


class SuccessorRunner:
    """Expects the successor of the last token; notes what it is asked for."""

    slots = 1
    max_length = 100

    def __init__(self):
        self.calls = []

    def prefill(self, slot, tokens, start=0):
        self.calls.append(("prefill", slot, list(tokens), start))
        return np.eye(VOCAB_SIZE, dtype=np.float32)[tokens[-1] + 1]

    def decode(self, tokens):
        self.calls.append(("decode", list(tokens)))
        return np.eye(VOCAB_SIZE, dtype=np.float32)[[token + 1 for token in tokens]]


def make_sequence(prompt, max_length):
    return TextSequence(prompt, EchoModel().tokenizer, SamplingParams(), max_length=max_length)


def test_each_token_is_fed_back_once_and_the_last_one_not_at_all():
    runner, sequence, timings = SuccessorRunner(), make_sequence([97, 98], 5), Timings()
    assert "".join(generate(runner, sequence, timings)) == "cde"
    assert runner.calls == [("prefill", 0, [97, 98], 0), ("decode", [99]), ("decode", [100])]
    assert sequence.finish_reason == "length"
    assert timings.decode_steps == 2
    assert timings.first_token_s >= timings.prefill_s > 0


def test_text_comes_while_it_is_generated():
    runner = SuccessorRunner()
    pieces = generate(runner, make_sequence([97], 50), Timings())
    assert next(pieces) == "b"
    assert len(runner.calls) == 1
    assert next(pieces) == "c"
    assert len(runner.calls) == 2


def test_warming_up_does_not_show_in_the_output():
    runner = EchoRunner(slots=1, max_length=20)
    warm_up(runner, list(b"other"))
    pieces = generate(runner, make_sequence(list(b"text"), 20), Timings())
    assert "".join(pieces) == "text"


def test_figures_are_rates_of_what_was_measured():
    sequence = make_sequence(list(b"abcd"), 10)
    sequence.accept(98)
    sequence.finish("interrupted")
    progress = Progress()
    progress.seconds = {"compile": 2.0, "other": 1.0}
    progress.from_cache = {"lower"}
    timings = Timings(prefill_s=0.5, first_token_s=0.6, decode_s=0.25, decode_steps=10)
    record = Metrics.of(sequence, timings, progress, start_to_first_token_s=3.0).as_json()
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
    record = Metrics.of(sequence, Timings(), Progress(), None).as_json()
    assert record["timings"]["prompt_tokens_per_s"] is None
    assert record["timings"]["generated_tokens_per_s"] is None


def test_the_age_of_the_process_is_that_of_the_operating_system():
    age = process_age_s()
    if age is None or shutil.which("ps") is None:
        pytest.skip("needs Linux and ps")
    # `ps` counts in whole seconds.
    elapsed = subprocess.check_output(["ps", "-o", "etimes=", "-p", str(os.getpid())])
    assert abs(age - int(elapsed)) < 2
