"""Each sampler against llama.cpp's published values, and distributions worked out by hand."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.generation import logits_process as reference

from pipelines.common.engine.sampling import SamplingParams
from pipelines.common.engine.sampling.chain import Chain
from pipelines.common.engine.sampling.dry import DRY
from pipelines.common.engine.sampling.order import DEFAULT_ORDER, SAMPLERS, shipped, stages
from pipelines.common.engine.sampling.quantile import reached
from pipelines.common.engine.sampling.sampler import Candidates, Sampler
from pipelines.common.errors import ParameterError, PluginError, UsageError
from pipelines.common.registry import builtins


class Letters:
    """A tokenizer of a few letters."""

    end_ids = frozenset({5})

    def __init__(self, vocab_size=6):
        self.vocab_size = vocab_size

    def token_bytes(self, id, *, special):
        assert special
        return b"abc:\n\x00"[id : id + 1]


LETTERS = Letters()
RISING = [0.1, 0.2, 0.3, 0.4]
FALLING = [0.4, 0.3, 0.2, 0.1]
EVEN = [0.2] * 5


def chain(history=(), tokenizer=LETTERS, **params):
    made = Chain(SamplingParams(**{"temperature": 1.0, **params}), tokenizer)
    made.observe(history)
    return made


def left(probabilities, history=(), **params):
    """What is left of tokens 0, 1 ...: the probability of each, 0 for one that is out."""
    with np.errstate(divide="ignore"):
        logits = np.log(np.array(probabilities, np.float32))
    candidates = chain(history, **params).left(Candidates(np.arange(logits.size), logits))
    likely = candidates.probabilities().astype(np.float64)
    found = np.zeros(logits.size)
    found[candidates.tokens] = likely / likely.sum()
    return found


# From tests/test-sampling.cpp of llama.cpp (MIT), by token and not in order of probability. XTC is
# not always applied there, and typical-p's results are not normalized.
@pytest.mark.parametrize(
    ("probabilities", "history", "params", "expected"),
    [
        (RISING, (), {"temperature": 1.0}, RISING),
        (RISING, (), {"top_k": 1}, [0, 0, 0, 1]),
        (RISING, (), {"top_k": 3}, [0, 0.22222, 0.33333, 0.44444]),
        (RISING, (), {"top_k": 4}, RISING),
        (RISING, (), {"top_p": 0.69999}, [0, 0, 0.428571, 0.571429]),
        (RISING, (), {"top_p": 0.8}, [0, 0.22222, 0.33333, 0.44444]),
        (RISING, (), {"min_p": 0.24}, RISING),
        (RISING, (), {"min_p": 0.26}, [0, 2 / 9, 3 / 9, 4 / 9]),
        (RISING, (), {"min_p": 0.49}, [0, 2 / 9, 3 / 9, 4 / 9]),
        (RISING, (), {"min_p": 0.51}, [0, 0, 3 / 7, 4 / 7]),
        (RISING, (), {"min_p": 0.76}, [0, 0, 0, 1]),
        (FALLING, (), {"xtc_probability": 1, "xtc_threshold": 0.09}, [0, 0, 0, 1]),
        (FALLING, (), {"xtc_probability": 1, "xtc_threshold": 0.19}, [0, 0, 2 / 3, 1 / 3]),
        (FALLING, (), {"xtc_probability": 1, "xtc_threshold": 0.29}, [0, 3 / 6, 2 / 6, 1 / 6]),
        (FALLING, (), {"xtc_probability": 1, "xtc_threshold": 0.39}, FALLING),
        ([0.97, 0.01, 0.01, 0.01], (), {"typical_p": 0.5}, [1, 0, 0, 0]),
        ([0.4, 0.2, 0.2, 0.2], (), {"typical_p": 0.5}, [0, 1 / 3, 1 / 3, 1 / 3]),
        (EVEN, [0], {"repetition_penalty": 50}, [0, 0.25, 0.25, 0.25, 0.25]),
        (EVEN, [0, 1, 2], {"repetition_penalty": 50}, [0, 0, 0, 0.5, 0.5]),
        (EVEN, [0, 1, 2, 0, 0], {"repetition_penalty": 50}, [0, 0, 0, 0.5, 0.5]),
        (
            EVEN,
            [0],
            {"presence_penalty": 5, "frequency_penalty": 5},
            [0.000011, 0.249997, 0.249997, 0.249997, 0.249997],
        ),
        (
            EVEN,
            [0, 1, 2, 0, 0],
            {"presence_penalty": 5, "frequency_penalty": 5},
            [0.000000, 0.000023, 0.000023, 0.499977, 0.499977],
        ),
        (RISING, (), {"top_n_sigma": 1.0}, [0, 0, 0.428571, 0.571429]),
        (RISING, (), {"top_n_sigma": 0.0}, RISING),
        (RISING, (), {"top_n_sigma": 3.0}, RISING),
    ],
)
def test_leaves_what_llama_cpp_does(probabilities, history, params, expected):
    np.testing.assert_allclose(left(probabilities, history, **params), expected, atol=2e-5)


@pytest.mark.parametrize(
    ("history", "expected", "multiplier", "allowed", "breakers"),
    [
        ([0, 1], [0.25] * 4, 1, 2, ()),
        ([0, 1, 2, 0, 1], [0.296923, 0.296923, 0.109232, 0.296923], 1, 2, ()),
        ([0, 1, 3, 4, 0, 1], EVEN, 1, 2, {3}),
        ([0, 1, 2, 0, 1], [0.241818, 0.241818, 0.032727, 0.241818, 0.241818], 2, 2, ()),
        ([0, 1, 2, 3, 4, 0, 1], EVEN, 1, 4, ()),
    ],
)
def test_dry_is_llama_cpps(history, expected, multiplier, allowed, breakers):
    """From the same file."""
    logits = np.log(np.full(len(expected), 1 / len(expected), np.float32))
    made = DRY(multiplier, 1.1, allowed, len(history), breakers)
    likely = made.apply(Candidates(np.arange(logits.size), logits), history).probabilities()
    np.testing.assert_allclose(likely / likely.sum(), expected, atol=1e-5)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.integers(0, 2), min_size=1, max_size=30), st.integers(1, 4), st.integers(0, 2))
def test_dry_finds_the_longest_repetition_by_definition(history, allowed, breaker):
    made = DRY(1.0, 2.0, allowed, -1, {breaker + 1})
    unbroken = []
    for token in reversed(history):
        if token == breaker + 1:
            break
        unbroken.insert(0, token)
    expected = {}
    for token in set(history) - {breaker + 1}:
        lengths = [
            n
            for n in range(allowed, len(unbroken) + 1)
            for end in range(n, len(history))
            if history[end - n : end] == unbroken[-n:] and history[end] == token
        ]
        if lengths:
            expected[token] = max(lengths)
    assert made._lengths(history) == expected


def test_a_penalty_of_dry_is_bounded():
    history = [7] * 3000
    logits = np.zeros(8, np.float32)
    made = DRY(1e30, 1.75, 2, -1, ())
    changed = made.apply(Candidates(np.arange(8), logits), history).logits
    assert changed[:7].tolist() == [0] * 7
    assert -math.inf < changed[7] < -1e38


def test_dry_breaks_at_tokens_that_have_a_text():
    wet = {"dry_multiplier": 5.0, "dry_base": 1.0, "dry_allowed_length": 2}
    likely = left([1 / 6] * 6, [0, 1, 2, 0, 1], **wet)
    assert likely[2] < likely[0] / 100
    broken = left([1 / 6] * 6, [0, 3, 2, 0, 3], **wet)
    assert broken[2] == broken[0]
    whole = left([1 / 6] * 6, [0, 3, 2, 0, 3], **wet, dry_sequence_breakers=())
    assert whole[2] < whole[0] / 100
    with pytest.raises(UsageError, match=r"`dry_sequence_breakers` has 'User:', which no token"):
        left([1 / 6] * 6, **wet, dry_sequence_breakers=("User:",))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.1, 0.5, 0.9]), st.sampled_from([40, 5000]))
def test_typical_tokens_are_those_of_transformers(seed, p, size):
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, 2, size).astype(np.float32)
    warped = reference.TypicalLogitsWarper(p)(
        torch.zeros(1, 1, dtype=torch.long), torch.tensor(logits, dtype=torch.float64)[None]
    )
    expected = set(np.flatnonzero(np.isfinite(warped[0].numpy())))
    found = chain(typical_p=p).left(Candidates(np.arange(size), logits))
    # It may stop a token earlier or later where sums are near p.
    assert len(expected ^ set(found.tokens.tolist())) <= 1


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 30, 2049, 20_000]), st.floats(0, 1.01))
def test_an_amount_is_reached_where_sorting_says(seed, size, share):
    generator = np.random.default_rng(seed)
    values = generator.exponential(size=size).astype(np.float32) ** 3
    values[generator.random(size) < 0.1] = values[0]
    weights = generator.random(size, np.float32)
    amount = share * weights.sum(dtype=np.float64)
    found = reached(values, weights, amount)
    assert found in values
    least, most = (weights[up].sum(dtype=np.float64) for up in (values < found, values <= found))
    assert least <= amount * (1 + 1e-12)
    assert most >= min(amount, weights.sum(dtype=np.float64)) * (1 - 1e-12)


def test_xtc_is_applied_as_often_as_it_says():
    made = chain(xtc_probability=0.3, xtc_threshold=0.09, seed=5)
    logits = np.log(np.array(FALLING, np.float32))
    sizes = [made.left(Candidates(np.arange(4), logits)).tokens.size for _ in range(4000)]
    assert set(sizes) == {1, 4}
    assert 0.27 < sizes.count(1) / 4000 < 0.33


def test_a_window_of_penalties_moves_on():
    params = {"frequency_penalty": 1.0, "repeat_last_n": 3}
    made = chain(**params)
    logits = np.zeros(5, np.float32)
    history = []
    for token in [0, 0, 1, 2, 2, 2, 0, 4, 4]:
        made.observe([token])
        history.append(token)
        found = made.left(Candidates(np.arange(5), logits)).logits
        expected = [-history[-3:].count(each) for each in range(5)]
        assert found.tolist() == expected
        fresh = chain(history, **params).left(Candidates(np.arange(5), logits)).logits
        assert fresh.tolist() == expected


def test_biases_are_added_before_all_else():
    assert left(RISING, logit_bias=((0, 100.0),), top_k=1).tolist() == [1, 0, 0, 0]
    assert left(RISING, logit_bias=((3, -1e38),), top_k=1).tolist() == [0, 0, 1, 0]
    greedy = chain(temperature=0.0, logit_bias=((0, 100.0),))
    assert greedy.sample(np.log(np.array(RISING, np.float32))) == 0
    with pytest.raises(UsageError, match=r"`logit_bias` has token 6, and the model's .* 0 to 5$"):
        chain(logit_bias=((6, 1.0),))


def test_end_tokens_are_not_chosen_where_they_are_ignored():
    made = chain(temperature=0.0, ignore_eos=True)
    assert made.sample(np.arange(6, dtype=np.float32)) == 4
    assert not made.takes(4)


def test_the_order_matters():
    """At a temperature of 0.5 the nucleus is smaller, so it does whether it is applied before."""
    hot = {"temperature": 0.5, "top_p": 0.5}
    assert np.count_nonzero(left(RISING, **hot)) == 2
    order = stages("temperature;top_p", shipped)
    assert np.count_nonzero(left(RISING, **hot, samplers=order)) == 1
    without = left(RISING, **hot, samplers=stages("top_p", shipped))
    np.testing.assert_allclose(without, [0, 0, 3 / 7, 4 / 7], atol=1e-6)
    np.testing.assert_allclose(left(RISING, **hot, samplers=()), RISING, atol=1e-6)


def test_a_greedy_choice_is_of_what_is_left():
    typical = {"temperature": 0.0, "typical_p": 0.5}
    assert chain(**typical).sample(np.log(np.array([0.4, 0.2, 0.2, 0.2], np.float32))) == 1
    assert chain(temperature=0.0, min_p=0.5, top_n_sigma=1.0, top_p=0.5).takes(2)


@pytest.mark.parametrize(
    ("params", "taken"),
    [
        ({"top_k": 7, "min_p": 0.1, "xtc_probability": 0.5, "typical_p": 0.5}, True),
        ({"top_k": 7, "top_n_sigma": 1.0}, False),
        ({"top_k": 7, "dry_multiplier": 1.0}, False),
        ({"top_k": 7, "presence_penalty": 1.0}, False),
        ({"top_k": 7, "presence_penalty": 1.0, "repeat_last_n": 0}, True),
        ({"top_k": 7, "logit_bias": ((1, 1.0),)}, False),
        ({"top_k": 7, "top_p": 0.5, "samplers": stages("top_p;top_k", shipped)}, False),
        ({"top_k": 7, "min_p": 0.5, "samplers": stages("min_p;top_k", shipped)}, True),
        ({"top_k": 7, "samplers": stages("top_k;penalties", shipped)}, True),
    ],
)
def test_eight_candidates_are_enough_for(params, taken):
    assert chain(**params).takes(8) == taken


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    order=st.permutations(sorted(SAMPLERS)),
    candidates=st.integers(1, 30),
    top_k=st.integers(0, 8),
)
def test_candidates_give_the_same_tokens_in_every_order(seed, order, candidates, top_k):
    numbers = random.Random(seed)
    some = {
        "temperature": numbers.choice([0.0, 1.0, 0.7]),
        "typical_p": numbers.choice([1.0, 0.6]),
        "xtc_probability": numbers.choice([0.0, 0.5]),
        "presence_penalty": numbers.choice([0.0, 0.5]),
        "dry_multiplier": numbers.choice([0.0, 0.5]),
        "min_p": numbers.choice([0.0, 0.1]),
        "top_p": numbers.choice([1.0, 0.8]),
    }
    generator = np.random.default_rng(seed)
    tokenizer = Letters(30)
    params = SamplingParams(
        top_k=top_k,
        seed=seed,
        samplers=stages(";".join(order), shipped),
        dry_sequence_breakers=(),
        **some,
    )
    from_all, from_few = Chain(params, tokenizer), Chain(params, tokenizer)
    for _ in range(4):
        logits = generator.integers(-9, 9, 30).astype(np.float32) / 4
        tokens = np.argsort(-logits, kind="stable")[:candidates]
        expected = from_all.sample(logits)
        if from_few.takes(candidates) and from_few.decided_by(logits[tokens]):
            assert from_few.sample_candidates(tokens, logits[tokens]) == expected
        else:
            assert from_few.sample(logits) == expected
        from_all.observe([expected])
        from_few.observe([expected])


class Odd(Sampler):
    """Leaves every second token, or what `strength` says."""

    def __init__(self, strength):
        self.strength = strength

    def apply(self, candidates, history):  # noqa: ARG002
        if self.strength < 0:
            return candidates.where(candidates.logits > np.inf)
        if self.strength > 1:
            return candidates.with_logits(candidates.logits * np.float32(math.nan))
        return candidates.where(candidates.tokens % 2 == 1)


def find(name):
    if name == "odd":
        return lambda setup: Odd(setup.settings["strength"]), {"strength": 0.5, "other": 2.0}
    return shipped(name)


def test_a_sampler_of_ones_own_takes_its_place():
    order = stages("top_k; odd( strength = 0.25 ) ;temperature", find)
    assert [str(stage) for stage in order] == ["top_k", "odd(strength=0.25,other=2)", "temperature"]
    found = left(RISING, samplers=order, top_k=3)
    np.testing.assert_allclose(found, [0, 1 / 3, 0, 2 / 3], atol=1e-6)
    assert SamplingParams(samplers=order).as_json()["samplers"] == ";".join(map(str, order))


@pytest.mark.parametrize(
    ("strength", "error", "message"),
    [
        (-1, UsageError, "sampler odd leaves no token to choose; let it leave some"),
        (2, PluginError, "sampler odd makes the largest logit nan"),
    ],
)
def test_a_sampler_that_leaves_nothing_is_named(strength, error, message):
    with pytest.raises(error, match=message):
        left(RISING, samplers=stages(f"odd(strength={strength})", find))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("top_k;top_l", "`samplers` is 'top_l'; expected names of penalties, dry,"),
        ("top_k top_p", "`samplers` is 'top_k top_p'; expected names between semicolons"),
        ("top_k;;top_p", "`samplers` is ''; expected names between semicolons"),
        ("odd(strength=x)", r"`samplers` is 'odd\(strength=x\)'; expected strength=NUMBER"),
        ("odd(strength=inf)", "expected strength=NUMBER"),
        ("odd(weight=1)", r"is 'odd\(weight=1\)'; expected a setting of it: strength, other"),
        ("top_k(k=1)", "expected a setting of it: it has none"),
    ],
)
def test_orders_that_are_none(text, message):
    with pytest.raises(ParameterError, match=message):
        stages(text, find)


def test_what_ships_is_registered_as_it_is():
    records = builtins.register_samplers()
    assert ";".join(record.name for record in records) == DEFAULT_ORDER
    for record in records:
        module, _, function = record.load.partition(":")
        assert module == "pipelines.common.engine.sampling.order"
        assert function == record.name
