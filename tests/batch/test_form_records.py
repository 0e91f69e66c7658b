"""The records that rows come to, and what of them can be read back."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from form_lines import DEFAULTS, FORMS, RESULT, TIMINGS, parse, request
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.common.batch.forms.completions import Completions
from pipelines.common.batch.forms.rows import JsonRows
from pipelines.common.batch.row import BadRow, Row
from pipelines.common.engine.sequence import Timings
from pipelines.common.requests.logprobs import Position, Scored
from pipelines.common.requests.text import Result


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


SCORED = (
    Position(
        Scored(2, " caf\\xc3", b" caf\xc3", -0.5), [Scored(2, " caf\\xc3", b" caf\xc3", -0.5)], 0
    ),
    Position(
        Scored(9, "<end>", None, -2.0), [Scored(7, "a", b"a", -1.0), Scored(8, "a", b"a", -1.5)], 4
    ),
)


def test_log_probabilities_in_the_forms_of_openai():
    result = replace(RESULT, logprobs=SCORED)
    row = parse(request(prompt="p", logprobs=2), Completions())
    (choice,) = Completions().record(row, result)["response"]["body"]["choices"]
    assert choice["logprobs"] == {
        "tokens": [" caf\\xc3", "<end>"],
        "token_logprobs": [-0.5, -2.0],
        "top_logprobs": [{" caf\\xc3": -0.5}, {"a": -1.0, "<end>": -2.0}],
        "text_offset": [0, 4],
    }
    chat = request(messages=[{"role": "user", "content": "p"}], logprobs=True, top_logprobs=2)
    row = parse({**chat, "url": "/v1/chat/completions"}, Completions())
    (choice,) = Completions().record(row, result)["response"]["body"]["choices"]
    first, second = choice["logprobs"].pop("content")
    assert choice["logprobs"] == {"refusal": None}
    cafe = {"token": " caf\\xc3", "logprob": -0.5, "bytes": [32, 99, 97, 102, 195]}
    assert first == {**cafe, "top_logprobs": [cafe]}
    assert (second["token"], second["bytes"]) == ("<end>", None)
    assert [each["logprob"] for each in second["top_logprobs"]] == [-1.0, -1.5]


SEVERAL = replace(
    RESULT, others=(replace(RESULT, text="put", finish_reason="length", tokens=(1, 2, 3, 4, 5)),)
)


def test_several_samples_in_the_forms_of_openai():
    row = parse(request(prompt="p", n=2), Completions())
    body = Completions().record(row, SEVERAL)["response"]["body"]
    assert body["choices"] == [
        {"index": 0, "text": "out", "logprobs": None, "finish_reason": "stop"},
        {"index": 1, "text": "put", "logprobs": None, "finish_reason": "length"},
    ]
    usage = body["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (7, 8, 15)
    chat = request(messages=[{"role": "user", "content": "p"}], n=2)
    row = parse({**chat, "url": "/v1/chat/completions"}, Completions())
    choices = Completions().record(row, SEVERAL)["response"]["body"]["choices"]
    said = [(each["index"], each["message"]["content"]) for each in choices]
    assert said == [(0, "out"), (1, "put")]


def test_several_samples_in_a_record():
    last = (1 << 63) - 1
    row = parse({"prompt": "p", "n": 2, "seed": last})
    record = JsonRows().record(row, SEVERAL)
    assert (record["text"], record["seed"]) == ("out", last)
    assert record["choices"] == [
        {"text": "out", "finish_reason": "stop", "generated_tokens": 3, "seed": last},
        {"text": "put", "finish_reason": "length", "generated_tokens": 5, "seed": 0},
    ]


def test_log_probabilities_in_a_record():
    record = JsonRows().record(parse({"prompt": "p"}), replace(RESULT, logprobs=SCORED[1:]))
    assert record["logprobs"] == [
        {
            "id": 9,
            "token": "<end>",
            "logprob": -2.0,
            "bytes": None,
            "top_logprobs": [
                {"id": 7, "token": "a", "logprob": -1.0, "bytes": [97]},
                {"id": 8, "token": "a", "logprob": -1.5, "bytes": [97]},
            ],
        }
    ]


def test_timings_without_a_decoded_token():
    result = Result("", (), "stop", 1, 0, Timings(prefill_s=1 / 3))
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
