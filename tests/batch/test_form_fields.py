"""What a field of a row is worth, in all forms alike: taken, without effect, or refused."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from form_lines import DEFAULTS, body_error, both, error, parse, request

from pipelines.common.batch.forms.completions import Completions
from pipelines.common.batch.forms.rows import JsonRows
from pipelines.common.batch.row import BadRow, Row
from pipelines.common.engine.sampling.order import shipped, stages
from pipelines.common.requests.vocabulary import HARMLESS, LIMITS, NOT_OFFERED


@pytest.mark.parametrize(("stop", "stops"), [("end", ("end",)), (["a"], ("a",)), ([], ())])
def test_stop_strings(stop, stops):
    assert parse({"prompt": "p", "stop": stop}).request.stops == stops


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"prompt": None}, "there is no prompt and there are no messages; expected one of them"),
        ({"prompt": ""}, "prompt is empty; expected at least one character"),
        ({"prompt": 5}, "prompt is 5; expected one string"),
        ({"prompt": ["a", "b"]}, 'prompt is ["a", "b"]; expected one string'),
        ({"temperature": "hot"}, 'temperature is "hot"; expected a number'),
        ({"temperature": True}, "temperature is true; expected a number"),
        ({"temperature": -1}, "temperature is -1; expected a number 0 or more"),
        ({"temperature": 10**400}, f"temperature is 1{'0' * 56}...; expected an integer of 63"),
        ({"top_k": 3.0}, "top_k is 3.0; expected an integer"),
        (
            {"top_k": 1 << 63},
            "top_k is 9223372036854775808; expected an integer of 63 bits at most",
        ),
        ({"top_p": 1.5}, "top_p is 1.5; expected a number above 0 and at most 1"),
        ({"top_p": 0}, "top_p is 0; expected a number above 0 and at most 1"),
        ({"min_p": [0.5]}, "min_p is [0.5]; expected a number"),
        ({"repetition_penalty": 0}, "repetition_penalty is 0; expected a number above 0"),
        ({"seed": False}, "seed is false; expected an integer"),
        ({"seed": -(10**30)}, "seed is -1000000000000000000000000000000; expected an integer"),
        ({"stop": ""}, 'stop is ""; expected a string or a list of strings, none of them empty'),
        ({"stop": ["a", ""]}, 'stop is ["a", ""]; expected a string or a list of strings'),
        ({"stop": ["a", 1]}, 'stop is ["a", 1]; expected a string or a list of strings'),
        ({"stop": {"a": 1}}, 'stop is {"a": 1}; expected a string or a list of strings'),
    ],
)
def test_wrong_values_are_shown_with_what_is_expected(fields, message):
    assert error({"prompt": "p", **fields}).startswith(message)
    assert body_error(**fields).startswith(message)


@pytest.mark.parametrize("limit", [0, -1, True, 2.5, "8"])
def test_the_limit_is_an_integer_above_zero(limit):
    shown = json.dumps(limit)
    assert error({"prompt": "p", "max_new_tokens": limit}).startswith(
        f"max_new_tokens is {shown}; expected an integer"
    )
    assert body_error(max_tokens=limit).startswith(f"max_tokens is {shown}; expected an integer")


@pytest.mark.parametrize("value", ["x" * 10_000, "\n\u2028\x1b\x9b" * 10, ["é" * 10_000]])
def test_values_are_shown_in_one_short_line(value):
    assert len(error({"prompt": "p", "top_k": value})) < 100


@pytest.mark.parametrize("name", sorted({*NOT_OFFERED, *HARMLESS}))
def test_fields_that_change_nothing_are_accepted(name):
    plain = both()
    for value in (None, *NOT_OFFERED.get(name, ["any", 5, {}])):
        row = both(**{name: value})
        assert isinstance(row, Row)
        assert row.unknown == ()
        assert replace(row, extra={}) == plain
    assert parse({"prompt": "p", "presence_penalty": 0.0}) == parse({"prompt": "p"})


@pytest.mark.parametrize("name", NOT_OFFERED)
def test_fields_that_would_change_the_result_are_refused(name):
    opposite = True not in NOT_OFFERED[name]
    for value in ("some", 7, 0.5, [1], {"a": 1}, opposite):
        row = both(**{name: value})
        assert isinstance(row, BadRow), (name, value)
        assert row.error.startswith(f"{name} is {json.dumps(value)}, which is not offered; ")
        assert row.error.endswith("null")


@pytest.mark.parametrize(
    ("field", "value", "taken"),
    [
        ("temperature", 0, 0),
        ("temperature", 1e300, 1e300),
        ("top_p", 1, 1),
        ("top_p", 5e-324, 5e-324),
        ("min_p", 0, 0),
        ("min_p", 1.0, 1.0),
        ("repetition_penalty", 1e-300, 1e-300),
        ("top_k", -1, -1),
        ("top_k", 0, 0),
        ("top_k", (1 << 63) - 1, (1 << 63) - 1),
        ("seed", 0, 0),
        ("seed", (1 << 63) - 1, (1 << 63) - 1),
        ("seed", -1, 100),
        ("presence_penalty", -2, -2),
        ("frequency_penalty", 2.0, 2.0),
        ("repeat_last_n", -1, -1),
        ("typical_p", 1, 1),
        ("top_n_sigma", -1, -1),
        ("xtc_probability", 1, 1),
        ("dry_base", 1, 1),
        ("dry_allowed_length", 1, 1),
        ("dry_sequence_breakers", [], ()),
        ("dry_sequence_breakers", ["\n", "é"], ("\n", "é")),
        ("logit_bias", {}, ()),
        ("logit_bias", {"50256": -100, "0": 0.5}, ((50256, -100), (0, 0.5))),
        ("ignore_eos", True, True),
        ("samplers", "", ()),
        ("samplers", [], ()),
        ("samplers", "top_p;top_k", stages("top_p;top_k", shipped)),
        ("samplers", ["top_p", "top_k"], stages("top_p;top_k", shipped)),
    ],
)
def test_values_at_their_bounds(field, value, taken):
    assert getattr(both(**{field: value}).request.sampling, field) == taken


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("temperature", [-1e-9, "1", [], True]),
        ("top_p", [0, -0.1, 1.0000001, "1", False]),
        ("min_p", [-1e-9, 1.1, {}]),
        ("repetition_penalty", [0, -1, "1"]),
        ("top_k", [-2, 1 << 63, 1.5, 2.0, "5", True]),
        ("seed", [-2, 1 << 63, 1.0, "5", True]),
        ("presence_penalty", ["1", True]),
        ("repeat_last_n", [-2, 0.5]),
        ("typical_p", [0, 1.1]),
        ("top_n_sigma", [-0.5, -2]),
        ("xtc_probability", [-0.1, 1.1]),
        ("dry_multiplier", [-1]),
        ("dry_base", [0.9]),
        ("dry_allowed_length", [0]),
        ("dry_sequence_breakers", ["a", [1], [""]]),
        ("logit_bias", [[], {"a": 1}, {"-1": 1}, {"1": "2"}, {"1": True}, {"9" * 5000: 1}]),
        ("ignore_eos", [1, "yes"]),
        ("samplers", [5, {}, "top_l", ["top_k", 3], "top_k;;top_p", "top_k(k=1)"]),
        ("stop", ["", [""], 5, {}, [None]]),
        ("prompt", ["", 5, {}, [], ["a", "b"], [1, 2], [[1, 2]], [""], [None], True]),
        *((limit, [0, -1, 1.0, "5", True, 1 << 63]) for limit in LIMITS),
    ],
)
def test_values_beyond_their_bounds(field, values):
    for value in values:
        row = both(**{field: value})
        assert isinstance(row, BadRow), (field, value)
        assert row.error.startswith(f"{field} is "), row.error


@pytest.mark.parametrize("name", LIMITS)
def test_the_limit_has_several_names(name):
    assert both(**{name: 5}).request.max_new_tokens == 5
    assert both(**{name: None}).request.max_new_tokens == 32
    assert both(**dict.fromkeys(LIMITS, 5)).request.max_new_tokens == 5
    other = next(other for other in LIMITS if other != name)
    row = both(**{name: 5, other: 6})
    assert isinstance(row, BadRow)
    assert "which mean the same; expected one of them" in row.error


@pytest.mark.parametrize(
    ("fields", "logprobs"),
    [
        ({}, None),
        ({"logprobs": 0}, 0),
        ({"logprobs": 5}, 5),
        ({"logprobs": True}, 0),
        ({"logprobs": True, "top_logprobs": 3}, 3),
        ({"logprobs": False, "top_logprobs": 0}, None),
    ],
)
def test_log_probabilities_are_asked_for_as_of_completions_and_of_chat(fields, logprobs):
    assert both(**fields).request.logprobs == logprobs


def test_a_row_may_go_without_the_log_probabilities_of_the_others():
    defaults = replace(DEFAULTS, logprobs=4)
    rows = [
        JsonRows().parse(json.dumps({"prompt": "p", **fields}), 1, 0, defaults)
        for fields in ({}, {"logprobs": None}, {"logprobs": False}, {"logprobs": 1})
    ]
    assert [row.request.logprobs for row in rows] == [4, 4, None, 1]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"logprobs": -1}, "logprobs is -1; expected an integer, 0 or more, true or false"),
        ({"logprobs": "5"}, 'logprobs is "5"; expected an integer, 0 or more, true or false'),
        ({"logprobs": True, "top_logprobs": -1}, "top_logprobs is -1; expected an integer, 0 or"),
        ({"logprobs": True, "top_logprobs": 2.5}, "top_logprobs is 2.5; expected an integer"),
        ({"top_logprobs": 2}, "top_logprobs is 2; expected logprobs true beside it"),
        ({"logprobs": 1, "top_logprobs": 2}, "top_logprobs is 2; expected logprobs true beside"),
    ],
)
def test_wrong_numbers_of_log_probabilities(fields, message):
    assert error({"prompt": "p", **fields}).startswith(message)
    assert body_error(**fields).startswith(message)


def test_several_samples():
    assert [both(**fields).request.samples for fields in ({}, {"n": None}, {"n": 1}, {"n": 3})] == [
        1,
        1,
        1,
        3,
    ]
    for count in (0, -1, 129):
        expected = f"n is {count}; expected an integer from 1 to 128"
        assert error({"prompt": "p", "n": count}) == body_error(n=count) == expected
    assert body_error(n=True) == "n is true; expected an integer"


def test_a_prompt_may_be_a_list_of_one():
    assert both(prompt=["p"]) == both(prompt="p")


def test_fields_that_nobody_knows_are_named():
    assert both(temprature=1, user="u").unknown == ("temprature",)
    row = parse({"prompt": "p", "temprature": 1, "user": "u", "n": 1})
    assert row.extra == {"temprature": 1, "user": "u"}
    assert parse({**request(prompt="p"), "note": 1}, Completions()).unknown == ("note",)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("best_of", 4, "1 or null"),
        ("echo", True, "false or null"),
        ("echo", 0, "false or null"),
        ("suffix", "end", '"" or null'),
        ("stream", True, "false or null"),
        ("min_tokens", 3, "0 or null"),
        ("stop_token_ids", [1], "[] or null"),
        ("response_format", {"type": "json_object"}, '{"type": "text"} or null'),
    ],
)
def test_options_that_would_change_the_result_are_refused(name, value, expected):
    message = f"{name} is {json.dumps(value)}, which is not offered; expected {expected}"
    assert body_error(**{name: value}) == message
