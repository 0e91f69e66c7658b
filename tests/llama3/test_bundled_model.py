"""The model that ships with the pipeline, against `transformers` on the same file."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from every_target import every_target
from notices import Notices
from tiny_models import in_transformers, open_model

from pipelines.common.program.runner import Runner
from pipelines.llama3.pipeline import BUNDLED

PROMPTS = ["I believe the meaning of life is", "Once upon a time", "Question: What is 3 + 4?"]
NEW_TOKENS = 40


@pytest.fixture(scope="module")
def continuations() -> list[list[int]]:
    """Prompts with what `transformers` makes of them; end tokens do not end it."""
    reference, encode = in_transformers(BUNDLED), open_model(None).tokenizer.encode
    reference.generation_config.eos_token_id = None
    return [
        reference.generate(
            torch.tensor([encode(prompt)]), do_sample=False, max_new_tokens=NEW_TOKENS
        )[0].tolist()
        for prompt in PROMPTS
    ]


def runner(target: str, encoding: str = "float32") -> Runner:
    return open_model(None, target=target, encoding=encoding).start(slots=1, max_length=80)


@pytest.mark.parametrize("target", every_target())
def test_greedy_text_in_float32_is_that_of_transformers(
    continuations: list[list[int]], target: str
) -> None:
    model = runner(target)
    for expected in continuations:
        tokens = expected[:-NEW_TOKENS]
        tokens.append(int(model.prefill(0, tokens).argmax()))
        while len(tokens) < len(expected):
            tokens.append(int(model.decode(tokens[-1:])[0].argmax()))
        assert tokens == expected


def test_q4_0_mostly_agrees_with_float32(continuations: list[list[int]]) -> None:
    """On text that float32 wrote, each token given all before it."""
    exact, coarse = runner("cpu"), runner("cpu", "q4_0")
    agreement = [
        exact.score(tokens).argmax(-1) == coarse.score(tokens).argmax(-1)
        for tokens in continuations
    ]
    assert np.mean(np.concatenate(agreement)) > 0.5


def test_user_is_told_that_it_is_the_bundled_model() -> None:
    progress = Notices()
    open_model(None, progress=progress)
    notice = progress.messages[0]
    assert BUNDLED.name in notice
    assert "`model_path`" in notice
