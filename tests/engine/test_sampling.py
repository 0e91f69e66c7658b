"""Sampling against the logits processors of transformers."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.generation import logits_process as reference

from pipelines.common.engine.sampling import SamplingParams
from pipelines.common.engine.sampling.chain import Chain, _draw
from pipelines.common.engine.sampling.order import shipped, stages
from pipelines.common.engine.sampling.sampler import Candidates
from pipelines.common.errors import ModelFileError, UsageError

VOCAB = 50

# As Hugging Face's `generate` has it.
IN_ITS_ORDER = stages("penalties;temperature;top_k;top_p;min_p", shipped)


class NoTokenizer:
    """All that samplers of these settings need of one."""

    vocab_size = 1 << 20
    end_ids = frozenset()


def chain_of(params):
    return Chain(params, NoTokenizer())


def left_of(logits, params):
    return chain_of(params).left(Candidates(np.arange(logits.size), logits))


def expected_distribution(logits, seen, params):
    """The distribution that Hugging Face's `generate` draws from, processors in its order."""
    processors = reference.LogitsProcessorList()
    if params.repetition_penalty != 1:
        processors.append(reference.RepetitionPenaltyLogitsProcessor(params.repetition_penalty))
    processors.append(reference.TemperatureLogitsWarper(params.temperature))
    if params.top_k:
        processors.append(reference.TopKLogitsWarper(params.top_k))
    if params.top_p < 1:
        processors.append(reference.TopPLogitsWarper(params.top_p))
    if params.min_p:
        processors.append(reference.MinPLogitsWarper(params.min_p))
    scores = processors(torch.tensor([seen]), torch.tensor(logits, dtype=torch.float64)[None])
    return torch.softmax(scores, -1)[0].numpy()


def drawn_distribution(logits, seen, params, draws=2_000):
    sampler = chain_of(params)
    sampler.observe(seen)
    counts = np.bincount([sampler.sample(logits) for _ in range(draws)], minlength=logits.size)
    return counts / draws


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.floats(0.2, 3),
    st.integers(0, VOCAB + 5),
    st.floats(0.05, 1),
    st.one_of(st.just(0.0), st.floats(0.01, 0.9)),
    st.floats(0.5, 2),
)
def test_keeps_the_tokens_transformers_keeps(seed, temperature, top_k, top_p, min_p, penalty):
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, 3, VOCAB).astype(np.float32)
    seen = generator.integers(0, VOCAB, 12).tolist()
    params = SamplingParams(temperature, top_k, top_p, min_p, penalty, seed, samplers=IN_ITS_ORDER)
    expected = expected_distribution(logits, seen, params)
    sampler = chain_of(params)
    sampler.observe(seen)
    drawn = {sampler.sample(logits) for _ in range(300)}
    assert drawn <= set(np.flatnonzero(expected))
    assert set(np.flatnonzero(expected > 0.1)) <= drawn


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(temperature=0.7),
        SamplingParams(temperature=1.5, top_k=5),
        SamplingParams(temperature=1.0, top_p=0.6),
        SamplingParams(temperature=1.0, min_p=0.2),
        SamplingParams(temperature=1.0, repetition_penalty=1.8),
        SamplingParams(temperature=0.8, top_k=20, top_p=0.9, min_p=0.05, repetition_penalty=1.2),
    ],
)
def test_draws_as_often_as_transformers_would(params):
    params = replace(params, samplers=IN_ITS_ORDER)
    generator = np.random.default_rng(1)
    logits = generator.normal(0, 2, VOCAB).astype(np.float32)
    seen = generator.integers(0, VOCAB, 12).tolist()
    expected = expected_distribution(logits, seen, params)
    chain, made = chain_of(params), np.zeros(VOCAB)
    chain.observe(seen)
    left = chain.left(Candidates(np.arange(VOCAB), logits))
    made[left.tokens] = left.probabilities()
    np.testing.assert_allclose(made / made.sum(), expected, rtol=1e-5, atol=1e-7)
    # Four standard deviations of a frequency from 2,000 draws are at most 0.045.
    assert np.abs(drawn_distribution(logits, seen, params) - expected).max() < 0.045


def test_top_p_on_a_long_tail_is_transformers_nucleus():
    # 100,000 tokens that no single threshold separates, most of them far below the tail.
    logits = np.random.default_rng(2).normal(0, 1, 100_000).astype(np.float32)
    params = SamplingParams(temperature=1.0, top_p=0.3)
    expected = set(np.flatnonzero(expected_distribution(logits, [0], params)))
    assert set(left_of(logits, params).tokens.tolist()) == expected


@pytest.mark.parametrize("size", [1, 511, 512, 513, 3000])
def test_a_number_falls_where_running_sums_put_it(size):
    generator = np.random.default_rng(size)
    probabilities = generator.random(size, np.float32)
    probabilities[generator.random(size) < 0.3] = 0
    probabilities[-1] = 0.5
    sums = np.cumsum(probabilities, dtype=np.float64)
    for uniform in [0.0, 1 - 2**-53, *generator.random(500)]:
        assert _draw(probabilities, uniform) == np.searchsorted(sums, uniform * sums[-1], "right")


def test_tokens_as_likely_as_the_last_of_the_nucleus_stay():
    logits = np.log(np.array([0.1, 0.2, 0.4, 0.2, 0.1], np.float32))
    left = left_of(logits, SamplingParams(temperature=1.0, top_p=0.5))
    assert left.tokens.tolist() == [1, 2, 3]


@settings(max_examples=300, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    levels=st.integers(1, 40),
    vocabulary=st.integers(1, 40),
    candidates=st.integers(1, 40),
    temperature=st.one_of(st.just(0.0), st.floats(0.05, 5)),
    top_k=st.integers(0, 20),
    top_p=st.floats(0.05, 1),
    min_p=st.one_of(st.just(0.0), st.floats(0.01, 0.9)),
    penalty=st.sampled_from([1.0, 1.3]),
)
def test_candidates_that_decide_give_the_same_tokens(
    seed, levels, vocabulary, candidates, temperature, top_k, top_p, min_p, penalty
):
    """With the same random numbers, and where many tokens are equally likely as well."""
    generator = np.random.default_rng(seed)
    params = SamplingParams(temperature, top_k, top_p, min_p, penalty, seed)
    from_all, from_few = chain_of(params), chain_of(params)
    candidates = min(candidates, vocabulary)
    for _ in range(5):
        logits = generator.integers(-levels, levels, vocabulary).astype(np.float32) / 4
        # Which of equals are among the candidates, and in which order, is left open.
        shuffled = generator.permutation(vocabulary)
        tokens = shuffled[np.argsort(-logits[shuffled])][:candidates]
        expected = from_all.sample(logits)
        if from_few.takes(candidates) and from_few.decided_by(logits[tokens]):
            assert from_few.sample_candidates(tokens, logits[tokens]) == expected
        else:
            assert from_few.sample(logits) == expected


@pytest.mark.parametrize(
    ("params", "taken"),
    [
        (SamplingParams(), True),
        (SamplingParams(top_k=50), True),  # greedy all the same
        (SamplingParams(temperature=0.7, top_k=7, top_p=0.9, min_p=0.1), True),
        (SamplingParams(temperature=0.7, top_k=8), False),
        (SamplingParams(temperature=0.7), False),
        (SamplingParams(repetition_penalty=1.1), False),
        (SamplingParams(temperature=0.7, top_k=7, repetition_penalty=1.1), False),
    ],
)
def test_eight_candidates_are_enough_for(params, taken):
    assert chain_of(params).takes(8) == taken


def test_a_tie_with_the_last_candidate_is_not_decided():
    greedy, drawn = chain_of(SamplingParams()), chain_of(SamplingParams(temperature=1, top_k=2))
    for logits, by_greedy, by_drawn in (
        ([3, 2, 1], True, True),
        ([3, 2, 2], True, False),
        ([3, 3, 3], False, False),
    ):
        assert greedy.decided_by(np.array(logits, np.float32)) == by_greedy
        assert drawn.decided_by(np.array(logits, np.float32)) == by_drawn


def test_candidates_that_are_no_numbers_are_refused():
    logits = np.array([np.inf, 2, 1], np.float32)
    sampler = chain_of(SamplingParams())
    assert sampler.decided_by(logits)
    with pytest.raises(ModelFileError, match="weights are damaged"):
        sampler.sample_candidates(np.array([5, 1, 2]), logits)


def test_greedy_takes_the_first_of_equals_and_leaves_the_logits_alone():
    logits = np.array([1, 3, 3, 2], np.float32)
    assert chain_of(SamplingParams()).sample(logits) == 1
    penalized = chain_of(SamplingParams(repetition_penalty=2.0))
    penalized.observe([1, 2])
    assert penalized.sample(logits) == 3
    assert logits.tolist() == [1, 3, 3, 2]


def test_same_seed_same_tokens():
    logits = np.zeros(1000, np.float32)

    def tokens(seed):
        sampler = chain_of(SamplingParams(temperature=1.0, seed=seed))
        return [sampler.sample(logits) for _ in range(20)]

    assert tokens(7) == tokens(7)
    assert tokens(7) != tokens(8)


def test_the_smallest_temperature_is_greedy():
    sampler = chain_of(SamplingParams(temperature=1e-30))
    assert {sampler.sample(np.array([0, 1e-3, 30, 30.5], np.float32)) for _ in range(50)} == {3}


EXTREMES = [5e-324, 1e-300, 1e-38, 1e-9, 1.0, 1e9, 1e38, 1e39, 1e300, 1.7e308]
SHARES = [5e-324, 1e-300, 1e-9, 0.5, 1 - 2**-53, 1.0]


@pytest.mark.filterwarnings("error")
@settings(max_examples=300, deadline=None)
@given(
    st.one_of(st.just(0.0), st.sampled_from(EXTREMES)),
    st.sampled_from([-1, 0, 1, 3, (1 << 63) - 1]),
    st.sampled_from(SHARES),
    st.sampled_from([0.0, *SHARES]),
    st.sampled_from(EXTREMES),
    st.lists(
        st.one_of(
            st.sampled_from([0.0, -math.inf, 3.4e38, -3.4e38, 1e-45, 1e30]), st.floats(-9, 9)
        ),
        min_size=2,
        max_size=9,
    ),
)
def test_no_extreme_is_too_much(temperature, top_k, top_p, min_p, penalty, logits):
    logits = np.array(logits, np.float32)
    logits[0] = max(logits[0], 0)  # one has to be a number
    sampler = chain_of(SamplingParams(temperature, top_k, top_p, min_p, penalty))
    sampler.observe(range(0, logits.size, 2))
    for _ in range(3):
        assert 0 <= sampler.sample(logits) < logits.size


def test_a_temperature_without_bound_makes_all_tokens_alike():
    logits = np.array([0, 5, -8, 3], np.float32)
    counts = drawn_distribution(logits, [], SamplingParams(temperature=1e300))
    np.testing.assert_allclose(counts, 0.25, atol=0.04)  # four standard deviations


def test_a_penalty_without_bound_leaves_what_was_not_seen():
    for logits, penalty in (([1, 2, 0.5], 1e300), ([-3, -1, -2], 1e300)):
        sampler = chain_of(SamplingParams(repetition_penalty=penalty))
        sampler.observe([0, 1])
        assert sampler.sample(np.array(logits, np.float32)) == 2
    sampler = chain_of(SamplingParams(repetition_penalty=1e-300))
    sampler.observe([0])
    assert sampler.sample(np.array([1, 2, 0.5], np.float32)) == 0


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_logits_that_are_no_numbers_are_refused(bad):
    logits = np.zeros(10, np.float32)
    logits[4] = bad
    with pytest.raises(ModelFileError, match="weights are damaged"):
        chain_of(SamplingParams()).sample(logits)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("temperature", -0.1),
        ("temperature", math.inf),
        ("temperature", math.nan),
        ("top_k", -2),
        ("top_k", 1 << 63),
        ("top_k", 2.0),
        ("top_k", True),
        ("top_k", None),
        ("temperature", "hot"),
        ("temperature", None),
        ("top_p", True),
        ("min_p", -math.inf),
        ("repetition_penalty", math.nan),
        ("seed", 1.5),
        ("seed", 1 << 63),
        ("top_p", 0.0),
        ("top_p", 1.01),
        ("min_p", -0.5),
        ("min_p", 1.5),
        ("repetition_penalty", 0.0),
        ("seed", -1),
    ],
)
def test_values_out_of_range_name_the_parameter(option, value):
    with pytest.raises(UsageError, match=f"^`{option}` is {value!r};"):
        SamplingParams(**{option: value})
