"""Forms of input: what a line says, what is wrong with it, and the record that it comes to."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.common.batch.forms.completions import Completions
from pipelines.common.batch.forms.rows import JsonRows
from pipelines.common.batch.forms.text import PlainText
from pipelines.common.batch.row import BadRow, Row
from pipelines.common.engine.sampling import SamplingParams
from pipelines.common.engine.sequence import Timings
from pipelines.common.requests.text import Defaults, Result, TextRequest
from pipelines.common.requests.vocabulary import HARMLESS, LIMITS, NOT_OFFERED

DEFAULTS = Defaults(
    sampling=SamplingParams(temperature=0.5, top_k=40, seed=100), max_new_tokens=32, stops=("\n",)
)
RESULT = Result(
    text="out",
    finish_reason="stop",
    prompt_tokens=7,
    shared_tokens=4,
    generated_tokens=3,
    timings=Timings(prefill_s=0.25, first_token_s=0.3, decode_s=1.5, decode_steps=3),
)
TIMINGS = {
    "prefill_s": 0.25,
    "first_token_s": 0.3,
    "decode_s": 1.5,
    "generated_tokens_per_s": 2.0,
}
FORMS = [JsonRows(), PlainText(), Completions()]


def parse(value, form=JsonRows(), index=0):  # noqa: B008
    text = value if isinstance(value, str) else json.dumps(value)
    return form.parse(text, 9, index, DEFAULTS)


def request(**body):
    return {"custom_id": "a", "method": "POST", "url": "/v1/completions", "body": body}


def error(value, form=JsonRows()):  # noqa: B008
    """What is wrong with a line."""
    row = parse(value, form)
    assert isinstance(row, BadRow), f"{value} is sound"
    assert row.line == 9
    assert row.error.isprintable()  # one line
    return row.error


def body_error(**body):
    return error(request(**{"prompt": "p", **body}), Completions())


def test_a_row_that_says_nothing_is_as_by_default():
    assert parse({"prompt": "p"}, index=3) == Row(
        line=9,
        id=None,
        request=TextRequest(
            prompt="p",
            sampling=SamplingParams(temperature=0.5, top_k=40, seed=103),
            max_new_tokens=32,
            stops=("\n",),
        ),
    )


def test_a_row_overrides_what_it_says():
    fields = {
        "temperature": 1,
        "top_k": 5,
        "top_p": 0.9,
        "min_p": 0.1,
        "repetition_penalty": 1.1,
        "seed": 7,
    }
    row = parse(
        {"id": 5, "prompt": "p", "max_new_tokens": 1, "stop": ["a", "b"], **fields}, index=3
    )
    assert row == Row(9, 5, TextRequest("p", SamplingParams(**fields), 1, ("a", "b")))


def test_null_is_as_good_as_nothing():
    names = ("id", "max_new_tokens", "temperature", "top_k", "top_p", "seed", "stop")
    assert parse({"prompt": "p", **dict.fromkeys(names)}) == parse({"prompt": "p"})


@pytest.mark.parametrize(("stop", "stops"), [("end", ("end",)), (["a"], ("a",)), ([], ())])
def test_stop_strings(stop, stops):
    assert parse({"prompt": "p", "stop": stop}).request.stops == stops


def test_unknown_fields_go_into_the_record_as_they_are():
    extra = {"topic": {"deep": [1, None, "é"]}, "extra": 1.5}
    row = parse({"prompt": "p", **extra})
    assert row.extra == extra
    assert JsonRows().record(row, RESULT)["extra"] == extra


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"prompt": p}', "not JSON at column 12: Expecting value"),
        ('{"prompt": "tab\there"}', "not JSON at column 16: Invalid control character"),
        ("What is love?", "not JSON at column 1: Expecting value"),
        ('{"prompt": "p"} {}', "not JSON at column 17: Extra data"),
        ('"p"', 'the line is "p"; expected an object'),
        ("null", "the line is null; expected an object"),
        ('{"prompt": "a", "prompt": "b"}', '"prompt" is given twice'),
        ('{"prompt": "a", "x": {"y": 1, "y": 1}}', '"y" is given twice'),
        ('{"prompt": "a", "x": NaN}', "NaN is no number in JSON"),
        ('{"prompt": "a", "top_p": -Infinity}', "-Infinity is no number in JSON"),
        ('{"prompt": "a", "x": 1e999}', "1e999 is too large; expected"),
        ('{"prompt": "a", "x": ' + "9" * 5000 + "}", "a number has 5000 digits"),
        (
            '{"prompt": "a", "x": ' + "[" * 100 + "]" * 100 + "}",
            "objects and lists are nested more than 100",
        ),
        (
            '{"prompt": "a", "x": ' + "[" * 100_000 + "]" * 100_000 + "}",
            "objects and lists are nested more than 100",
        ),
        ("[" * 100_000 + "]" * 100_000, "objects and lists are nested more than 100"),
        (r'{"prompt": "a\ud800b"}', r"\ud800 is half of a surrogate pair"),
        (r'{"prompt": "a", "x": {"\udfff": 1}}', r"\udfff is half of a surrogate pair"),
        (r'{"id": "\udc80", "prompt": "a"}', r"\udc80 is half of a surrogate pair"),
    ],
)
@pytest.mark.parametrize("form", [JsonRows(), Completions()])
def test_lines_that_are_no_sound_object(text, message, form):
    if form.name == "completions":
        text = text.replace('"id"', '"custom_id"').replace('{"prompt"', '{"custom_id":"","prompt"')
        message = message.split(" at column")[0]
    assert error(text, form).startswith(message)


def test_as_deep_as_it_may_be():
    nested = json.loads("[" * 99 + "]" * 99)
    assert parse({"prompt": "p", "x": nested}).extra == {"x": nested}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"prompt": None}, "there is no prompt; expected a string"),
        ({"prompt": ""}, "prompt is empty; expected at least one character"),
        ({"prompt": 5}, "prompt is 5; expected one string"),
        ({"prompt": ["a", "b"]}, 'prompt is ["a", "b"]; expected one string'),
        ({"prompt": None, "messages": []}, "chat messages cannot be run yet; expected a prompt"),
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


@pytest.mark.parametrize("value", [True, 1.0, ["a"], {}])
def test_an_id_is_a_string_or_an_integer(value):
    message = error({"id": value, "prompt": "p"})
    assert message == f"id is {json.dumps(value)}; expected a string or an integer"


def test_what_can_be_read_of_a_bad_row_is_kept():
    row = parse({"id": "a", "prompt": 5, "topic": "x"})
    assert (row.id, row.extra) == ("a", {"topic": "x"})
    row = parse({**request(prompt=5, model="m"), "custom_id": "b"}, Completions())
    assert (row.id, row.extra) == ("b", {"model": "m"})
    assert parse(r'{"id": "a", "prompt": "\ud800"}').id == "a"


@pytest.mark.parametrize("value", ["x" * 10_000, "\n\u2028\x1b\x9b" * 10, ["é" * 10_000]])
def test_values_are_shown_in_one_short_line(value):
    assert len(error({"prompt": "p", "top_k": value})) < 100


def test_a_request_among_rows_is_told_from_them():
    assert "OpenAI Batch API" in error(request(prompt="p"))
    assert "OpenAI Batch API" in error({"prompt": "p"}, Completions())
    assert parse({"prompt": "p", "body": "b"}).extra == {"body": "b"}


def test_a_line_of_text_is_the_prompt():
    row = parse("  two  words ", PlainText(), index=2)
    sampling = SamplingParams(temperature=0.5, top_k=40, seed=102)
    assert row == Row(9, None, TextRequest("  two  words ", sampling, 32, ("\n",)))
    assert error("binary\0data", PlainText()).startswith("has a NUL character")


def test_a_request_of_the_batch_api():
    body = {
        "model": "llama",
        "prompt": "p",
        "max_tokens": 5,
        "temperature": 0.7,
        "top_p": 0.9,
        "top_k": 3,
        "seed": 1,
        "stop": "x",
        "user": "someone",
    }
    sampling = SamplingParams(temperature=0.7, top_p=0.9, top_k=3, seed=1)
    row = parse(request(**body), Completions())
    assert row == Row(9, "a", TextRequest("p", sampling, 5, ("x",)), {"model": "llama"})


def both(**fields):
    """What both forms make of the same fields, which is the same."""
    row = parse({"id": "a", "prompt": "p", **fields})
    other = parse(request(**{"prompt": "p", **fields}), Completions())
    assert type(row) is type(other)
    assert replace(row, extra={}) == replace(other, extra={})
    return row


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
        if name == "messages":
            assert row.error == "chat messages cannot be run yet; expected a prompt"
        else:
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
        ("n", 2, "1 or null"),
        ("n", True, "1 or null"),
        ("best_of", 4, "1 or null"),
        ("echo", True, "false or null"),
        ("echo", 0, "false or null"),
        ("logprobs", 0, "false or null"),
        ("suffix", "end", '"" or null'),
        ("stream", True, "false or null"),
        ("presence_penalty", 0.1, "0 or null"),
        ("frequency_penalty", -1, "0 or null"),
        ("logit_bias", {"50256": -100}, "{} or null"),
        ("min_tokens", 3, "0 or null"),
        ("stop_token_ids", [1], "[] or null"),
        ("response_format", {"type": "json_object"}, '{"type": "text"} or null'),
    ],
)
def test_options_that_would_change_the_result_are_refused(name, value, expected):
    message = f"{name} is {json.dumps(value)}, which is not offered; expected {expected}"
    assert body_error(**{name: value}) == message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"custom_id": None}, "there is no custom_id; expected "),
        ({"custom_id": 5}, "custom_id is 5; expected a string"),
        ({"method": "GET"}, 'method is "GET"; expected "POST"'),
        ({"method": None}, 'method is null; expected "POST"'),
        ({"url": "/v1/embeddings"}, 'url is "/v1/embeddings"; expected "/v1/completions"'),
        ({"url": ["/v1/completions"]}, 'url is ["/v1/completions"]; expected "/v1/completions"'),
        ({"url": "/v1/chat/completions"}, 'url is "/v1/chat/completions"; chat messages cannot'),
        ({"body": "p"}, 'body is "p"; expected an object'),
        ({"body": None}, "body is null; expected an object"),
    ],
)
def test_requests_that_are_no_completions(changes, message):
    assert error({**request(prompt="p"), **changes}, Completions()).startswith(message)


def test_the_record_of_a_row():
    row = parse({"id": "a", "prompt": "p"}, index=1)
    assert JsonRows().record(row, RESULT) == {
        "id": "a",
        "line": 9,
        "text": "out",
        "finish_reason": "stop",
        "prompt_tokens": 7,
        "shared_prompt_tokens": 4,
        "generated_tokens": 3,
        "seed": 101,
        "timings": TIMINGS,
        "error": None,
    }


def test_a_failure_has_the_fields_of_a_record():
    row = parse({"id": "a", "prompt": "p", "topic": 1})
    record, failure = JsonRows().record(row, RESULT), JsonRows().failure(row.failed("too long"))
    assert list(failure) == list(record)
    assert list(failure["timings"]) == list(record["timings"])
    assert set(failure["timings"].values()) == {None}
    kept = {name: value for name, value in failure.items() if value is not None}
    del kept["timings"]
    assert kept == {
        "id": "a",
        "line": 9,
        "finish_reason": "error",
        "error": "line 9: too long",
        "extra": {"topic": 1},
    }


def test_timings_without_a_decoded_token():
    result = Result("", "stop", 1, 0, 0, Timings(prefill_s=1 / 3))
    assert JsonRows().record(parse({"prompt": "p"}), result)["timings"] == {
        "prefill_s": 0.333333,
        "first_token_s": None,
        "decode_s": 0.0,
        "generated_tokens_per_s": None,
    }


def test_the_response_to_a_request():
    row = parse(request(prompt="p", model="m"), Completions())
    record = Completions().record(row, RESULT)
    assert record["response"]["body"].pop("created") > 1_700_000_000
    assert record == {
        "id": "batch_req_9",
        "custom_id": "a",
        "response": {
            "status_code": 200,
            "request_id": "req_9",
            "body": {
                "id": "cmpl-9",
                "object": "text_completion",
                "model": "m",
                "choices": [{"index": 0, "text": "out", "logprobs": None, "finish_reason": "stop"}],
                "usage": {
                    "prompt_tokens": 7,
                    "completion_tokens": 3,
                    "total_tokens": 10,
                    "prompt_tokens_details": {"cached_tokens": 4},
                },
                "timings": TIMINGS,
            },
        },
        "error": None,
    }


def test_the_response_to_a_bad_request():
    assert Completions().failure(BadRow(9, "a", "prompt is empty")) == {
        "id": "batch_req_9",
        "custom_id": "a",
        "response": {
            "status_code": 400,
            "request_id": "req_9",
            "body": {
                "error": {
                    "message": "line 9: prompt is empty",
                    "type": "invalid_request_error",
                    "param": None,
                    "code": None,
                }
            },
        },
        "error": None,
    }


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.sampled_from(["line", "finish_reason", "batch_req_1"]),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
FIELDS = st.sampled_from(
    ["id", "custom_id", "prompt", "method", "url", "body", "top_k", "top_p", "seed", "stop", "x"]
)
VALUES = JSON | st.sampled_from(["p", "POST", "/v1/completions", {"prompt": "p"}, {"n": 1}])


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
@settings(max_examples=50)
@given(
    text=st.text().filter(str.strip) | st.dictionaries(FIELDS, VALUES).map(json.dumps),
    line=st.integers(1, 10**9),
)
def test_any_line_comes_to_a_record_that_tells_of_it(form, text, line):
    row = form.parse(text, line, 0, DEFAULTS)
    if isinstance(row, Row):
        assert row.request.prompt
        records = [(form.record(row, RESULT), True), (form.failure(row.failed("no")), False)]
    else:
        assert row.error.isprintable()
        records = [(form.failure(row), False)]
    for record, ran in records:
        written = json.dumps(record, ensure_ascii=False, allow_nan=False).encode()
        assert form.recorded(json.loads(written)) == (line, ran)


@settings(max_examples=50)
@given(JSON)
def test_other_json_is_no_record(value):
    assert [form.recorded(value) for form in FORMS] == [None, None, None]


@pytest.mark.parametrize(
    "record",
    [
        {"line": 0, "finish_reason": "stop"},
        {"line": True, "finish_reason": "stop"},
        {"line": 1.0, "finish_reason": "stop"},
        {"line": 1, "finish_reason": None},
        {"line": 1},
        {"id": "batch_req_0", "response": {"status_code": 200}},
        {"id": "batch_req_1x", "response": {"status_code": 200}},
        {"id": "batch_req_٣", "response": {"status_code": 200}},
        {"id": "batch_req_" + "9" * 5000, "response": {"status_code": 200}},
        {"id": "batch_req_1", "response": None},
        {"id": "batch_req_1", "response": {"status_code": "200"}},
        {"id": 1, "response": {"status_code": 200}},
    ],
)
def test_records_of_the_wrong_shape_are_none(record):
    assert JsonRows().recorded(record) is None
    assert Completions().recorded(record) is None


def test_the_forms_do_not_take_each_others_records():
    row = parse({"prompt": "p"})
    assert Completions().recorded(JsonRows().record(row, RESULT)) is None
    row = parse(request(prompt="p"), Completions())
    assert JsonRows().recorded(Completions().record(row, RESULT)) is None
