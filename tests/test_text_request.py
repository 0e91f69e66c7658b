"""From JSON to what the engine takes, without a file or a line."""

from __future__ import annotations

import pytest

from pipelines.common.engine.sampling import SamplingParams
from pipelines.common.errors import PromptError
from pipelines.common.requests.completions import invalid_request
from pipelines.common.requests.fields import check_text, load_object, read_request
from pipelines.common.requests.prompts import PromptReader
from pipelines.common.requests.text import Defaults, TextRequest
from pipelines.common.requests.values import RequestError
from pipelines.echo.pipeline import EchoModel

READER = PromptReader(EchoModel().tokenizer)
DEFAULTS = Defaults(SamplingParams(seed=5), max_new_tokens=10, stops=("end",))


def read(text):
    fields = load_object(text, "the body")
    check_text(fields)
    return read_request(fields, DEFAULTS)


def test_an_object_comes_to_what_the_engine_takes():
    asked = read('{"prompt": "abc", "max_tokens": 4, "temperature": 0.5}')
    request = asked.encoded(READER, max_length=100)
    assert (request.prompt, request.max_length) == (list(b"abc"), 7)
    assert request.sampling == SamplingParams(temperature=0.5, seed=5)
    assert request.stops == ("end",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", 'the body is [1]; expected an object, {"prompt": ...}'),
        ("{", "not JSON at column 2: Expecting property name enclosed in double quotes"),
        ('{"top_p": 1}', "there is no prompt and there are no messages; expected one of them"),
        ('{"prompt": "p", "top_p": 2}', "top_p is 2; expected a number above 0 and at most 1"),
        ('{"prompt": "p", "max_tokens": 0}', "max_tokens is 0; expected an integer, 1 or more"),
        ('{"prompt": "p", "best_of": 2}', "best_of is 2, which is not offered; expected 1 or null"),
    ],
)
def test_what_is_wrong_is_said_of_the_field(text, message):
    with pytest.raises(RequestError) as raised:
        read(text)
    assert str(raised.value) == message
    assert invalid_request(message)["error"]["message"] == message


@pytest.mark.parametrize(
    ("prompt", "new", "length", "limit"), [(5, 10, 100, 15), (5, 10, 12, 12), (5, 10, 6, 6)]
)
def test_the_limit_is_the_nearer_one(prompt, new, length, limit):
    asked = TextRequest("x" * prompt, SamplingParams(), new)
    request = asked.encoded(READER, max_length=length)
    assert request.max_length == limit


@pytest.mark.parametrize("prompt", [100, 4321])
def test_a_prompt_without_room_for_output_names_both_numbers(prompt):
    with pytest.raises(PromptError, match=rf"{prompt} tokens.* 100;"):
        TextRequest("x" * prompt, SamplingParams(), 1).encoded(READER, max_length=100)
