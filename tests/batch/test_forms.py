"""Forms of input: what a line says, what is wrong with it, and the record that it comes to."""

from __future__ import annotations

import json

import pytest
from form_lines import RESULT, error, parse, request

from pipelines.common.batch.forms.completions import Completions
from pipelines.common.batch.forms.rows import JsonRows
from pipelines.common.batch.forms.text import PlainText
from pipelines.common.batch.row import Row
from pipelines.common.engine.sampling import SamplingParams
from pipelines.common.requests.text import TextRequest


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


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"custom_id": None}, "there is no custom_id; expected "),
        ({"custom_id": 5}, "custom_id is 5; expected a string"),
        ({"method": "GET"}, 'method is "GET"; expected "POST"'),
        ({"method": None}, 'method is null; expected "POST"'),
        ({"url": "/v1/embeddings"}, 'url is "/v1/embeddings"; expected "/v1/completions"'),
        ({"url": ["/v1/completions"]}, 'url is ["/v1/completions"]; expected "/v1/completions"'),
        ({"url": "/v1/chat/completions"}, "there is prompt in a request of /v1/chat/completions"),
        ({"body": "p"}, 'body is "p"; expected an object'),
        ({"body": None}, "body is null; expected an object"),
    ],
)
def test_requests_that_are_no_completions(changes, message):
    assert error({**request(prompt="p"), **changes}, Completions()).startswith(message)
