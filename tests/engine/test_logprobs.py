"""Log-probabilities of the tokens that a sequence is given."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hashing_runners import MAX_LENGTH, TOKENIZER, DistinctRunner

from pipelines.common.engine.engine import Engine
from pipelines.common.engine.logprobs import LEAST, token_logprobs
from pipelines.common.engine.request import Request
from pipelines.common.engine.sampling import SamplingParams
from pipelines.common.errors import UsageError


@pytest.mark.parametrize("scale", [0.1, 1, 30])
def test_they_are_those_of_float64(scale: float) -> None:
    logits = np.random.default_rng(0).normal(0, scale, 5000).astype(np.float32)
    expected = torch.from_numpy(logits).double().log_softmax(-1)
    found = token_logprobs(logits, 17, 20)
    values, ids = expected.topk(20)
    assert found.token == 17
    assert found.logprob == pytest.approx(expected[17].item(), abs=5e-7)
    assert [id for id, _ in found.top] == ids.tolist()
    assert [value for _, value in found.top] == pytest.approx(values.tolist(), abs=5e-7)


def test_of_tokens_that_are_equally_likely_the_first_are_told() -> None:
    logits = np.array([0, 2, 1, 2, 1, 1], np.float32)
    assert [id for id, _ in token_logprobs(logits, 0, 4).top] == [1, 3, 2, 4]
    assert len(token_logprobs(logits, 0, 1000).top) == logits.size
    assert token_logprobs(logits, 0, 0).top == ()


def test_what_is_impossible_is_a_number_all_the_same() -> None:
    logits = np.array([0, -np.inf], np.float32)
    assert token_logprobs(logits, 1, 2).top == ((0, 0.0), (1, LEAST))


def run(logprobs: int | None, **sampling: object) -> tuple[DistinctRunner, Engine, object]:
    runner = DistinctRunner(1)
    engine = Engine(runner, TOKENIZER)
    request = Request(list(b"hello"), MAX_LENGTH, SamplingParams(**sampling), logprobs=logprobs)
    sequence = engine.add(request)
    while not engine.idle:
        engine.step()
    return runner, engine, sequence


def test_who_asks_gets_all_logits_and_the_same_tokens() -> None:
    runner, _, plain = run(None)
    asking, _, told = run(2)
    assert plain.tokens == told.tokens
    assert plain.logprobs == []
    assert [each.token for each in told.logprobs] == told.tokens
    assert runner.named("advance")
    assert not runner.named("decode")
    assert asking.named("decode")
    assert not asking.named("advance")


def test_samplers_have_no_part_in_them() -> None:
    _, _, plain = run(4)
    for seed in range(8):
        _, _, sequence = run(4, temperature=9, top_k=3, seed=seed, ignore_eos=True)
        assert sequence.logprobs[0].top == plain.logprobs[0].top
        if sequence.tokens[0] != plain.tokens[0]:
            assert (sequence.tokens[0], sequence.logprobs[0].logprob) in plain.logprobs[0].top
            return
    raise AssertionError("the likeliest token was drawn every time")


def test_less_than_none_is_refused() -> None:
    with pytest.raises(UsageError, match="`logprobs` is -1; expected 0 or more"):
        Request([1], 2, logprobs=-1)
