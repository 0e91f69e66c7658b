from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.common.export.records import record


@dataclass(frozen=True)
class Part:
    size: int
    ratio: float
    note: str | None


@dataclass(frozen=True)
class Whole:
    name: str
    on: bool
    shape: tuple[int, ...]
    parts: tuple[Part, ...]
    by_name: dict[str, Part]


PARTS = st.builds(
    Part,
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.none() | st.text(),
)


@given(
    st.builds(
        Whole,
        st.text(),
        st.booleans(),
        st.lists(st.integers()).map(tuple),
        st.lists(PARTS, max_size=3).map(tuple),
        st.dictionaries(st.text(), PARTS, max_size=3),
    )
)
def test_what_json_keeps_of_a_dataclass_becomes_the_same_one(whole):
    assert record(Whole, json.loads(json.dumps(dataclasses.asdict(whole)))) == whole


PART = {"size": 1, "ratio": 0.5, "note": None}
WHOLE = {"name": "n", "on": True, "shape": [1], "parts": [PART], "by_name": {"a b": PART}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": 3}, "name is '3', expected a text"),
        ({"on": 1}, "on is '1', expected a boolean"),
        ({"shape": [1, True]}, "shape[1] is 'True', expected an integer"),
        ({"shape": {}}, "shape is '{}', expected a list"),
        ({"parts": [PART, {**PART, "ratio": "1"}]}, "parts[1].ratio is '1', expected a finite"),
        ({"parts": [{**PART, "ratio": 10**400}]}, "parts[0].ratio is '1000"),
        (
            {"parts": [{**PART, "ratio": float("nan")}]},
            "parts[0].ratio is 'nan', expected a finite",
        ),
        ({"parts": [{**PART, "ratio": True}]}, "parts[0].ratio is 'True', expected a finite"),
        ({"parts": [{**PART, "note": 1}]}, "parts[0].note is '1', expected a text"),
        ({"parts": [{"size": 1, "ratio": 1.0}]}, "parts[0].note is missing"),
        ({"by_name": {"a b": {**PART, "size": 1.0}}}, "by_name.'a b'.size is '1.0', expected an"),
        ({"by_name": []}, "by_name is '[]', expected an object"),
        ({"more": 1}, "more is not known"),
    ],
)
def test_what_is_wrong_is_named(change, message):
    with pytest.raises(ValueError) as error:
        record(Whole, {**WHOLE, **change})
    assert str(error.value).startswith(message)
    assert len(str(error.value)) < 150
