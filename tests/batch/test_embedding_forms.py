"""The forms of texts whose vectors are asked for."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.common.batch.embeddings import embedded
from pipelines.common.batch.forms.embed import TEXTS
from pipelines.common.batch.row import BadRow, Row
from pipelines.common.errors import PromptError
from pipelines.common.requests.embeddings import Embedding, EmbeddingRequest

FORMS = [TEXTS.lines, TEXTS.rows, TEXTS.requests]
VALUES = st.none() | st.integers() | st.text() | st.lists(st.text())
FIELDS = st.sampled_from(["id", "text", "custom_id", "method", "url", "body", "input"])
BODIES = st.fixed_dictionaries(
    {"input": VALUES},
    optional={"encoding_format": st.sampled_from([None, "float", "base64", 1]), "user": VALUES},
)
REQUESTS = st.fixed_dictionaries(
    {
        "custom_id": VALUES,
        "method": st.just("POST"),
        "url": st.just("/v1/embeddings"),
        "body": BODIES,
    }
)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
@settings(max_examples=50, deadline=None)
@given(
    text=st.text().filter(str.strip) | (st.dictionaries(FIELDS, VALUES) | REQUESTS).map(json.dumps),
    line=st.integers(1, 10**9),
)
def test_any_line_comes_to_a_record_that_tells_of_it(form, text, line):
    row = form.parse(text, line, 0, None)
    if isinstance(row, Row):
        assert all(row.request.texts)
        vectors = np.ones((len(row.request.texts), 2), np.float32)
        ran = form.record(row, Embedding(vectors, 3))
        records = [(ran, True), (form.failure(row.failed("no")), False)]
    else:
        assert row.error.isprintable()
        records = [(form.failure(row), False)]
    for record, success in records:
        written = json.dumps(record, ensure_ascii=False, allow_nan=False).encode()
        assert form.recorded(json.loads(written)) == (line, success)


def test_rows_are_computed_some_hundred_at_a_time_and_keep_their_order():
    calls = []

    def ids(text):
        if text == "13":
            raise PromptError("unlucky")
        return [int(text)]

    def vectors(texts):
        calls.append(len(texts))
        return np.array(texts, np.float32)

    rows = [
        BadRow(n, None, "bad") if n % 100 == 0 else Row(n, None, EmbeddingRequest((str(n),) * 2))
        for n in range(300)
    ]
    made = [*embedded(rows, ids, vectors)]
    assert calls == [2 * (256 - 3 - 1), 2 * 44]
    for number, each in enumerate(made):
        if number % 100 == 0 or number == 13:
            assert isinstance(each, BadRow)
            continue
        row, result = each
        assert (row.line, result.tokens, result.vectors.tolist()) == (number, 2, [[number]] * 2)
