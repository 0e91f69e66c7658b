"""Questions of multiple choice: their form, their tokens, and how they are judged."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import in_transformers, llama, open_model, write_gguf

from pipelines.common.errors import PromptError, UsageError
from pipelines.common.measure.choices import Accuracy, Question, log_likelihoods, tokenized
from pipelines.common.requests.choices import read_questions

FIELDS: dict[str, Any] = {"ctx": "Once upon a time", "endings": ["a b", "cd e f"], "label": 1}
QUESTIONS = [
    Question("A quiet boy walks to the hill. He", ("sits down.", "is a frog", "ran and ran!"), 0),
    Question("One day", ("Sam said", "the crow sat on a stone and looked at the sky"), 1),
    Question("a", ("b", "bbbb bbb b", "c"), 2),
]


def read(*lines: Any) -> list[tuple[int, Question]]:
    text = "\n".join(each if isinstance(each, str) else json.dumps(each) for each in lines)
    return [*read_questions(text, "q.jsonl")]


def test_lines_of_hellaswag() -> None:
    other = {**FIELDS, "ctx": " a ", "endings": [" b", "c ", "d"], "label": "2", "ind": 24}
    assert read(FIELDS, "", other, "") == [
        (1, Question("Once upon a time", ("a b", "cd e f"), 1)),
        (3, Question("a", ("b", "c", "d"), 2)),
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not JSON at column 2"),
        ("[1]", "the line is [1]; expected an object"),
        ({"ctx": "a", "label": 0}, "there is no endings; expected ctx, endings and label"),
        ({**FIELDS, "ctx": " "}, 'ctx is " "; expected a text that is not empty'),
        ({**FIELDS, "ctx": "\ud800"}, "\\ud800 is half of a surrogate pair"),
        ({**FIELDS, "endings": ["a"]}, 'endings is ["a"]; expected a list of two texts or more'),
        ({**FIELDS, "endings": ["a", ""]}, 'endings is ["a", ""]; expected a list of two texts'),
        ({**FIELDS, "endings": "ab"}, 'endings is "ab"; expected a list'),
        ({**FIELDS, "label": 2}, "label is 2; expected the place of the right ending, from 0 to 1"),
        ({**FIELDS, "label": -1}, "label is -1; expected the place"),
        ({**FIELDS, "label": True}, "label is true; expected the place"),
        ({**FIELDS, "label": ""}, 'label is ""; expected the place'),
    ],
)
def test_a_bad_line_is_named(line: Any, message: str) -> None:
    with pytest.raises(PromptError) as raised:
        read(FIELDS, "", line)
    assert str(raised.value).startswith(f"q.jsonl, line 3: {message}")


def test_a_file_without_questions() -> None:
    with pytest.raises(PromptError, match=r"q\.jsonl holds no questions; expected a JSON object a"):
        read("", " ")


def test_likelihoods_are_those_of_transformers_in_float64(tmp_path: Any) -> None:
    path = write_gguf(tmp_path / "model.gguf", llama())
    model = open_model(path, encoding="float32")
    runner, judge = model.start(slots=1, max_length=128), in_transformers(path).double()
    accuracy, right = Accuracy(), np.zeros((len(QUESTIONS), 2))
    for number, question in enumerate(QUESTIONS):
        asked = tokenized(question, model.tokenizer)
        expected = []
        for ending in question.endings:
            context = model.tokenizer.encode(question.context, special=False)
            whole = model.tokenizer.encode(f"{question.context} {ending}", special=False)
            assert whole[: len(context)] == context
            with torch.no_grad():
                scores = judge(torch.tensor([whole])).logits[0].log_softmax(-1)
            places = range(len(context), len(whole))
            expected.append(sum(scores[place - 1, whole[place]].item() for place in places))
        np.testing.assert_allclose(log_likelihoods(asked, runner), expected, rtol=1e-4)
        normalized = [s / len(e) for s, e in zip(expected, question.endings, strict=True)]
        right[number] = [np.argmax(each) == question.label for each in (expected, normalized)]
        accuracy.ask(asked, runner)
    assert 0 < right.mean() < 1
    assert [accuracy.right.value, accuracy.right_normalized.value] == pytest.approx(
        right.mean(axis=0)
    )
    spread = right[:, 0].std(ddof=1) / math.sqrt(len(QUESTIONS))
    assert accuracy.right.error == pytest.approx(spread)


def test_an_ending_without_tokens_of_its_own_is_refused() -> None:
    deaf: Any = SimpleNamespace(encode=lambda text, **_: [1, ord(text[0])])
    with pytest.raises(UsageError, match="the endings have no tokens of their own"):
        tokenized(QUESTIONS[1], deaf)
