"""Which prompts are computed next to each other."""

from __future__ import annotations

from pipelines.common.batch.order import alike_together
from pipelines.common.engine.request import Request


def make_request(prompt):
    return Request(list(prompt), len(prompt) + 1)


def test_prompts_that_begin_alike_come_together():
    story, sum_ = b"Once upon a time there was ", b"How much is the sum of "
    prompts = [story + b"x", sum_ + b"2 and 3", b"alone", story + b"a", sum_, b"Once", story + b"x"]
    ordered = [bytes(one.prompt) for one in alike_together(make_request(p) for p in prompts)]
    assert ordered == [
        *(story + b"a", story + b"x", story + b"x"),
        *(sum_, sum_ + b"2 and 3"),
        b"alone",
        b"Once",
    ]


def test_few_are_looked_at_ahead():
    asked = 0

    def requests():
        nonlocal asked
        for number in range(1000):
            asked += 1
            yield make_request(b"%d" % number)

    together = alike_together(requests())
    taken = [bytes(next(together).prompt) for _ in range(250)]
    assert 250 <= asked <= 300
    assert taken == [b"%d" % number for number in range(250)]
    assert len(list(together)) == 750
