"""Stop strings, for every way that a text can be cut into pieces."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.common.engine.stops import StopMatcher
from pipelines.common.errors import UsageError

# Two letters make overlaps and false starts frequent.
TEXT = st.text("ab", max_size=30)
STOPS = st.lists(st.text("ab", min_size=1, max_size=5), max_size=4)


def expected_text(text, stops):
    """The text before the first stop string to be complete, character by character."""
    for end in range(len(text) + 1):
        ending = [stop for stop in stops if text[:end].endswith(stop)]
        if ending:
            return text[: end - max(map(len, ending))], max(ending, key=len)
    return text, None


@given(TEXT, STOPS, st.lists(st.integers(0, 30)))
def test_the_result_does_not_depend_on_the_pieces(text, stops, cuts):
    matcher = StopMatcher(stops)
    bounds = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    printed = "".join(matcher.push(text[a:b]) for a, b in itertools.pairwise(bounds))
    assert (printed + matcher.flush(), matcher.matched) == expected_text(text, stops)


@given(TEXT, STOPS)
def test_nothing_is_held_back_that_cannot_become_a_stop_string(text, stops):
    matcher = StopMatcher(stops)
    printed = ""
    for end, char in enumerate(text, 1):
        printed += matcher.push(char)
        if matcher.matched is not None:
            return
        held = text[len(printed) : end]
        assert held == "" or any(stop.startswith(held) for stop in stops)


def test_nothing_comes_after_a_match():
    matcher = StopMatcher(["."])
    assert matcher.push("one. two") == "one"
    assert matcher.push("three") == ""
    assert matcher.flush() == ""


def test_an_empty_stop_string_is_refused():
    with pytest.raises(UsageError, match="`stops` has an empty text"):
        StopMatcher(["end", ""])
