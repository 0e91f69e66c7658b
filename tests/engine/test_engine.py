"""What the engine asks of a runner, and that no sequence notices the others.

The runner here computes nothing: the token that it makes most likely is a hash of all tokens that a
slot holds, so that a sequence that is put on a wrong beginning goes wrong at once.
"""

from __future__ import annotations

import numpy as np
import pytest
from hashing_runners import (
    MAX_LENGTH,
    TOKENIZER,
    DamagedRunner,
    DistinctRunner,
    HashingRunner,
    ShortlistingRunner,
    SuccessorRunner,
    TyingRunner,
    UndecidedRunner,
    make_request,
    run,
    texts_of,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.common.engine import engine as engine_module
from pipelines.common.engine.engine import Engine, warm_up
from pipelines.common.engine.engine import run as run_all
from pipelines.common.engine.request import Request
from pipelines.common.errors import ModelFileError, TargetError, UsageError


def test_a_single_sequence_is_one_prefill_and_then_its_tokens_one_by_one():
    runner = SuccessorRunner(1)
    ((sequence, text),) = run(runner, [make_request(b"ab", 3)]).items()
    assert text == "cde"
    assert runner.calls == [
        ("prefill", 0, b"ab", 0),
        ("decode", [ord("c")]),
        ("decode", [ord("d")]),
    ]
    assert sequence.finish_reason == "length"
    assert sequence.timings.decode_steps == 2
    assert sequence.timings.first_token_s >= sequence.timings.prefill_s > 0
    assert sequence.timings.decode_s > 0


def test_text_comes_while_it_is_computed():
    runner = SuccessorRunner(1)
    pieces = run_all(Engine(runner, TOKENIZER), [make_request(b"a", 40)])
    assert next(pieces).text == "b"
    assert len(runner.calls) == 1
    assert next(pieces).text == "c"
    assert len(runner.calls) == 2


def test_a_long_prompt_is_computed_part_by_part(monkeypatch):
    monkeypatch.setattr(engine_module, "PREFILL_CHUNK", 4)
    runner = SuccessorRunner(1)
    engine = Engine(runner, TOKENIZER)
    sequence = engine.add(make_request(b"abcdefghi", 2))
    parts = []
    for calls in (1, 2, 3):
        (event,) = engine.step()
        assert len(runner.calls) == calls
        parts.append((event.text, sequence.timings.first_token_s is None))
    assert parts == [("", True), ("", True), ("j", False)]
    assert runner.named("prefill") == [(0, b"abcd", 0), (0, b"efgh", 4), (0, b"i", 8)]
    assert [event.text for event in engine.step()] == ["k"]
    assert engine.idle
    assert engine.step() == []


def test_a_sequence_that_ends_makes_room_while_the_others_go_on():
    runner = SuccessorRunner(2)
    a, e, i = make_request(b"a", 2), make_request(b"e", 4), make_request(b"i", 2)
    ended = [(sequence.request, text) for sequence, text in run(runner, [a, e, i]).items()]
    assert ended == [(a, "bc"), (i, "jk"), (e, "fghi")]
    assert runner.calls == [
        ("prefill", 0, b"a", 0),
        ("prefill", 1, b"e", 0),
        ("decode", list(b"bf")),
        ("prefill", 0, b"i", 0),
        ("decode", list(b"jg")),
        # Nothing is left for the first slot: what goes on in the second moves there.
        ("copy", 1, 0, 3),
        ("decode", list(b"h")),
    ]


def test_the_next_sequence_is_asked_for_when_there_is_a_slot_for_it():
    asked = []

    def requests():
        for prompt in (b"a", b"e", b"i"):
            asked.append(prompt)
            yield make_request(prompt, 2)

    pieces = run_all(Engine(SuccessorRunner(1), TOKENIZER), requests())
    assert [len(asked) for _ in pieces] == [1, 1, 2, 2, 3, 3]


def test_slots_are_not_used_for_more_than_there_is():
    runner = SuccessorRunner(8)
    run(runner, [make_request(b"a", 3), make_request(b"e", 3)])
    assert runner.named("decode") == [(list(b"bf"),), (list(b"cg"),)]
    assert runner.named("copy") == []


def test_sequences_of_one_token_never_reach_a_step():
    runner = SuccessorRunner(4)
    ended = run(runner, (make_request([97 + n], 1) for n in range(10)))
    assert list(ended.values()) == list("bcdefghijk")
    assert runner.named("decode") == []


def test_no_sequences_no_calls():
    runner = SuccessorRunner(2)
    assert run(runner, []) == {}
    assert runner.calls == []


def test_a_common_beginning_is_computed_once():
    runner = HashingRunner(3)
    prompts = [b"the question is: one", b"the question is: two", b"something else"]
    first = make_request(b"the question is: none", 20)
    requests = [make_request(prompt, 1) for prompt in prompts]
    shared = {one.request: one.shared_tokens for one in run(runner, [first, *requests])}
    assert runner.named("prefill") == [
        (0, b"the question is: none", 0),
        (1, b"one", 17),
        # The second slot is free again and has the beginning already.
        (1, b"two", 17),
        (1, b"something else", 0),
    ]
    assert runner.named("copy") == [(0, 1, 17)]
    assert [shared[request] for request in requests] == [17, 17, 0]


def test_of_equal_prompts_the_last_token_is_computed_each_time():
    runner = HashingRunner(2)
    requests = [make_request(b"same", 3) for _ in range(2)]
    texts = list(run(runner, requests).values())
    assert runner.named("prefill") == [(0, b"same", 0), (1, b"e", 3)]
    assert texts[0] == texts[1]


def test_what_a_sequence_has_written_is_a_beginning_too():
    runner = SuccessorRunner(1)
    run(runner, [make_request(b"ab", 4), make_request(b"abcdeZ", 1)])
    # The last token that was chosen never went in.
    assert runner.named("prefill")[1] == (0, b"Z", 5)


def test_of_free_slots_the_one_with_the_beginning_is_taken():
    runner = SuccessorRunner(3)
    engine = Engine(runner, TOKENIZER)
    for prompts in ([b"axx", b"bxx", b"cxx"], [b"bxy"]):
        for _ in run_all(engine, [make_request(prompt, 2) for prompt in prompts]):
            pass
    assert runner.named("prefill")[-1] == (1, b"y", 2)


def test_rows_with_settings_of_their_own_share_a_batch():
    def requests():
        return [make_request(b"p", 20, temperature=5.0, seed=seed) for seed in (1, 2, 1)]

    runner = SuccessorRunner(3)
    first, second, third = (sequence.tokens for sequence in run(runner, requests()))
    assert first == third != second


@settings(deadline=None)
@given(
    slots=st.integers(1, 5),
    rows=st.lists(
        st.tuples(st.text("ab", min_size=1, max_size=12), st.integers(1, 12)), max_size=20
    ),
)
def test_a_sequence_does_not_notice_the_others(slots, rows):
    def requests():
        return [make_request(prompt.encode(), length) for prompt, length in rows]

    together = requests()
    ended = {one.request: (one, text) for one, text in run(HashingRunner(slots), together).items()}
    for request, other in zip(together, requests(), strict=True):
        ((alone, text),) = run(HashingRunner(1), [other]).items()
        sequence, text_together = ended[request]
        assert text_together == text
        assert sequence.finish_reason == alone.finish_reason
        assert sequence.tokens == alone.tokens


@settings(deadline=None)
@given(
    slots=st.integers(1, 5),
    rows=st.lists(
        st.tuples(st.text("ab", min_size=1, max_size=12), st.integers(1, 12)), max_size=20
    ),
)
def test_no_step_is_wasted(slots, rows):
    """All slots are at work while there are rows for them; no sequence takes a step too many."""
    runner = HashingRunner(slots)
    left = len(rows)

    def counted():
        nonlocal left
        for prompt, length in rows:
            left -= 1
            yield make_request(prompt.encode(), length)

    ended = set()
    for event in run_all(Engine(runner, TOKENIZER), counted()):
        ended.add(event.sequence)
        if runner.calls[-1][0] == "decode" and left:
            assert len(runner.calls[-1][1]) == slots
    fed = sum(len(tokens) for (tokens,) in runner.named("decode"))
    assert fed == sum(sequence.timings.decode_steps for sequence in ended)
    assert len(runner.named("prefill")) == len(rows)


def test_a_sequence_without_a_next_token_ends_alone():
    requests = [make_request(prompt, 5) for prompt in (b"a", b"v", b"x")]
    ended = run(DamagedRunner(2), requests)
    bad, late, good = ended
    assert [bytes(one.prompt) for one in ended] == [b"v", b"x", b"a"]
    assert [*ended.values()] == ["wx", "", "bcdef"]
    for sequence in (bad, late):
        assert sequence.finish_reason == "error"
        assert isinstance(sequence.error, ModelFileError)
    assert good.error is None


def test_a_runner_that_fails_ends_the_run():
    class Failing(SuccessorRunner):
        def logits(self, slot):
            raise TargetError(f"the device of slot {slot} is lost")

    with pytest.raises(TargetError, match="the device of slot 0 is lost"):
        run(Failing(2), [make_request(b"a", 5)])


def test_a_source_that_fails_ends_the_run():
    def requests():
        yield make_request(b"a", 5)
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        run(SuccessorRunner(2), requests())


def test_warming_up_does_not_show_in_the_output():
    runner = SuccessorRunner(1)
    warm_up(runner, list(b"other"))
    assert list(run(runner, [make_request(b"a", 3)]).values()) == ["bcd"]


def step_calls(runner, *sampling):
    """What is asked of a runner that could tell candidates, for one step of several sequences."""
    run(runner, [make_request([97 + n], 2, **params) for n, params in enumerate(sampling)])
    return [call[0] for call in runner.calls if call[0] != "prefill"]


@pytest.mark.parametrize("sampling", [{}, {"temperature": 0.8, "top_k": 5, "top_p": 0.9}])
def test_logits_stay_where_candidates_are_enough(sampling):
    assert step_calls(DistinctRunner(2), {}, sampling) == ["advance"]


@pytest.mark.parametrize("sampling", [{"temperature": 0.8}, {"repetition_penalty": 1.2}])
def test_all_logits_are_asked_for_if_one_sequence_needs_them(sampling):
    assert step_calls(DistinctRunner(2), {}, sampling) == ["decode"]


def test_all_logits_are_asked_for_if_candidates_do_not_decide():
    assert step_calls(UndecidedRunner(2), {}, {}) == ["advance", "last_logits"]


SAMPLING = st.fixed_dictionaries(
    {
        "temperature": st.sampled_from([0.0, 0.0, 0.7, 3.0]),
        "top_k": st.integers(0, 9),
        "top_p": st.sampled_from([1.0, 0.8]),
        "repetition_penalty": st.sampled_from([1.0, 1.0, 1.0, 1.5]),
        "seed": st.integers(0, 3),
    }
)


@settings(deadline=None)
@given(slots=st.integers(1, 4), rows=st.lists(SAMPLING, min_size=1, max_size=6))
def test_candidates_and_all_logits_give_the_same_tokens(slots, rows):
    def tokens(runner):
        requests = [make_request(b"p", 8, **sampling) for sampling in rows]
        tokens_of = {one.request: one.tokens for one in run(runner, requests)}
        return [tokens_of[request] for request in requests]

    assert tokens(ShortlistingRunner(slots)) == tokens(TyingRunner(slots))


def test_a_sequence_without_a_next_token_ends_alone_among_candidates():
    class Damaged(DistinctRunner):
        def logits(self, slot):
            logits = super().logits(slot)
            if len(self.held[slot]) > 3 and self.held[slot][0] == ord("x"):
                logits[0] = np.inf  # as candidates tell it of what is not a number
            return logits

    requests = [make_request(b"abc", 4), make_request(b"xyz", 4)]
    good, bad = sorted(run(Damaged(2), requests), key=lambda one: one.prompt)
    assert bad.finish_reason == "error"
    assert isinstance(bad.error, ModelFileError)
    assert good.error is None
    assert len(good.tokens) == 4


def test_requests_come_while_others_are_computed():
    engine = Engine(SuccessorRunner(2), TOKENIZER)
    first = engine.add(make_request(b"a", 4))
    texts = [event.text for _ in range(2) for event in engine.step()]
    assert texts == ["b", "c"]
    second, third = engine.add(make_request(b"k", 2)), engine.add(make_request(b"p", 1))
    assert engine.room == -1
    ended = texts_of(event for _ in range(6) for event in engine.step())
    assert list(ended.items()) == [(second, "lm"), (third, "q"), (first, "de")]


def test_what_cannot_be_computed_is_refused_at_once():
    engine = Engine(SuccessorRunner(1), TOKENIZER)
    with pytest.raises(UsageError, match="may grow to 65 tokens; expected at most 64"):
        engine.add(Request([1], MAX_LENGTH + 1))
    for prompt in ([], [1, 2, 3]):
        with pytest.raises(UsageError, match="expected at least one token, and room for output"):
            Request(prompt, 3)
    assert engine.idle


def test_interleaved_prompts_do_not_hold_up_the_others(monkeypatch):
    """Each step gives whatever goes on a token, however long the prompt beside it."""
    monkeypatch.setattr(engine_module, "PREFILL_CHUNK", 4)
    runner = SuccessorRunner(2)
    engine = Engine(runner, TOKENIZER, interleaved=True)
    first = engine.add(make_request(b"a", 20))
    engine.step()
    second = engine.add(make_request(b"bcdefghij", 2))
    lengths = []
    while second.finish_reason is None:
        engine.step()
        lengths.append(len(first.tokens))
    assert lengths == [2, 3, 4, 5]
    assert runner.named("decode") == [([98],), ([99],), ([100],), ([101, 107],)]


@settings(deadline=None)
@given(
    data=st.data(),
    slots=st.integers(1, 4),
    interleaved=st.booleans(),
    chunk=st.integers(1, 5),
)
def test_arrivals_and_cancellations(data, slots, interleaved, chunk):
    """Whatever comes and goes at any time, each sequence is what it is alone, or a part of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine_module, "PREFILL_CHUNK", chunk)
        engine = Engine(HashingRunner(slots), TOKENIZER, interleaved=interleaved)
        texts, cancelled = {}, set()
        for _ in range(data.draw(st.integers(0, 25))):
            unfinished = [one for one in texts if one.finish_reason is None]
            actions = ["add", "step", "step", *(["cancel"] if unfinished else [])]
            match data.draw(st.sampled_from(actions)):
                case "add":
                    prompt = data.draw(st.text("ab", min_size=1, max_size=12))
                    request = make_request(prompt.encode(), data.draw(st.integers(1, 12)))
                    texts[engine.add(request)] = ""
                case "cancel":
                    sequence = data.draw(st.sampled_from(unfinished))
                    texts[sequence] += engine.cancel(sequence)
                    assert sequence.finish_reason == "interrupted"
                    assert engine.cancel(sequence) == ""
                    cancelled.add(sequence)
                case "step":
                    step(engine, texts, cancelled)
        limit = sum(len(one.prompt) + one.request.max_length for one in texts)
        for _ in range(limit):
            if engine.idle:
                break
            step(engine, texts, cancelled)
        assert engine.idle
        assert engine.room == slots
    for sequence, text in texts.items():
        ((alone, whole),) = run(HashingRunner(1), [sequence.request]).items()
        if sequence in cancelled:
            assert alone.tokens[: len(sequence.tokens)] == sequence.tokens
        else:
            assert (text, sequence.finish_reason) == (whole, alone.finish_reason)


def step(engine, texts, cancelled):
    """One step; what is cancelled or has ended does not come any more."""
    ended = {one for one in texts if one.finish_reason is not None}
    idle = engine.idle
    events = engine.step()
    assert bool(events) != idle
    for event in events:
        assert event.sequence not in ended | cancelled
        texts[event.sequence] += event.text
