"""Callers of one engine get their own text each, whatever the others do."""

from __future__ import annotations

import threading

import pytest
from hashing_runners import TOKENIZER, HashingRunner, make_request, run

from pipelines.common.engine.engine import Engine
from pipelines.common.engine.shared import SharedEngine
from pipelines.common.errors import UsageError

PROMPTS = [b"a", b"ab", b"abc", b"b", b"abd"]


def alone(prompt):
    (text,) = run(HashingRunner(1), [make_request(prompt, 40)]).values()
    return text


EXPECTED = [alone(prompt) for prompt in PROMPTS]


def read(engine, prompt):
    sequence = engine.add(make_request(prompt, 40))
    pieces = []
    while (text := engine.next_text(sequence)) is not None:
        pieces.append(text)
    engine.cancel(sequence)
    return "".join(pieces)


@pytest.mark.parametrize("slots", [1, 3])
def test_callers_by_turns(slots):
    engine = SharedEngine(HashingRunner(slots), TOKENIZER)
    waiting = {engine.add(make_request(prompt, 40)): [] for prompt in PROMPTS}
    texts = [*waiting.values()]
    while waiting:
        for sequence, pieces in [*waiting.items()]:
            text = engine.next_text(sequence)
            if text is None:
                del waiting[sequence]
            else:
                pieces.append(text)
    assert ["".join(pieces) for pieces in texts] == EXPECTED


@pytest.mark.parametrize("slots", [1, 3])
def test_callers_of_several_threads(slots):
    engine = SharedEngine(HashingRunner(slots), TOKENIZER)
    texts = {}

    def work(number):
        for place in range(len(PROMPTS)):
            at = (number + place) % len(PROMPTS)
            texts[number, at] = read(engine, PROMPTS[at])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert texts == {(n, at): text for n in range(4) for at, text in enumerate(EXPECTED)}


def test_one_who_does_not_go_on_is_in_nobodys_way():
    engine = SharedEngine(HashingRunner(1), TOKENIZER)
    slow = engine.add(make_request(b"a", 40))
    first = engine.next_text(slow)
    assert read(engine, b"abc") == EXPECTED[2]
    assert first + engine.next_text(slow) == EXPECTED[0]
    assert engine.next_text(slow) is None


class InterruptedRunner(HashingRunner):
    """Is interrupted after it has taken a token, at one of its steps."""

    at = -1

    def decode(self, tokens):
        logits = super().decode(tokens)
        self.at -= 1
        if self.at == 0:
            raise KeyboardInterrupt
        return logits


@pytest.mark.parametrize("at", [1, 4])
def test_a_step_that_is_interrupted_ends_all_and_leaves_the_engine_usable(at):
    runner = InterruptedRunner(2)
    runner.at = at
    engine = SharedEngine(runner, TOKENIZER)
    one, other = (engine.add(make_request(prompt, 40)) for prompt in PROMPTS[:2])
    pieces = []
    with pytest.raises(KeyboardInterrupt):
        while True:
            pieces.append(engine.next_text(one))
    assert one.finish_reason == other.finish_reason == "interrupted"
    assert EXPECTED[0].startswith("".join(pieces))
    assert EXPECTED[1].startswith(engine.next_text(other))
    assert engine.next_text(other) is None
    assert [read(engine, prompt) for prompt in PROMPTS] == EXPECTED


def test_what_is_cancelled_in_the_midst_of_a_step_ends_after_it(monkeypatch):
    """As the collector of garbage does it, which may run anywhere."""
    engine = SharedEngine(HashingRunner(2), TOKENIZER)
    dropped, kept = (engine.add(make_request(prompt, 40)) for prompt in PROMPTS[:2])
    engine.next_text(dropped)
    step = Engine.step

    def collecting(self):
        if dropped.finish_reason is None:
            assert engine.cancel(dropped) == ""
        return step(self)

    monkeypatch.setattr(Engine, "step", collecting)
    pieces = []
    while (text := engine.next_text(kept)) is not None:
        pieces.append(text)
    assert "".join(pieces) == EXPECTED[1]
    assert dropped.finish_reason == "interrupted"


def test_the_runner_is_lent_when_nothing_is_under_way():
    runner = HashingRunner(2)
    engine = SharedEngine(runner, TOKENIZER)
    sequence = engine.add(make_request(b"a", 40))
    with engine.alone() as lent:
        assert lent is runner
        assert sequence.finish_reason in ("stop", "length")
        lent.prefill(0, b"something else")
    assert engine.next_text(sequence) == EXPECTED[0]
    assert read(engine, b"ab") == EXPECTED[1]


def test_closed():
    engine = SharedEngine(HashingRunner(1), TOKENIZER)
    sequence = engine.add(make_request(b"a", 40))
    text = engine.next_text(sequence)
    engine.close()
    engine.close()
    assert sequence.finish_reason == "interrupted"
    for use in (
        lambda: engine.add(make_request(b"a", 1)),
        lambda: engine.next_text(sequence),
        lambda: engine.alone().__enter__(),
    ):
        with pytest.raises(UsageError, match="the model is closed; load it again"):
            use()
    assert text + engine.cancel(sequence) == text
