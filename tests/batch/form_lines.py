"""Lines of all forms, and what they come to."""

from __future__ import annotations

import json
from dataclasses import replace

from pipelines.common.batch.forms.completions import Completions
from pipelines.common.batch.forms.rows import JsonRows
from pipelines.common.batch.forms.text import PlainText
from pipelines.common.batch.row import BadRow
from pipelines.common.engine.sampling import SamplingParams
from pipelines.common.engine.sequence import Timings
from pipelines.common.requests.text import Defaults, Result

DEFAULTS = Defaults(
    sampling=SamplingParams(temperature=0.5, top_k=40, seed=100), max_new_tokens=32, stops=("\n",)
)
RESULT = Result(
    text="out",
    tokens=(5, 6, 7),
    finish_reason="stop",
    prompt_tokens=7,
    shared_tokens=4,
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


def both(**fields):
    """What both forms make of the same fields, which is the same."""
    row = parse({"id": "a", "prompt": "p", **fields})
    other = parse(request(**{"prompt": "p", **fields}), Completions())
    assert type(row) is type(other)
    assert replace(row, extra={}) == replace(other, extra={})
    return row
