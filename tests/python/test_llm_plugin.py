"""The program `llm` has models of the pipelines."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

import pipelines

llm = pytest.importorskip("llm", reason="the extra llm is not installed")

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def model():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    assert declared["llm"] == {"pipelines": "pipelines.llm_plugin"}
    from pipelines import llm_plugin

    models = {}
    llm_plugin.register_models(lambda each: models.__setitem__(each.model_id, each))
    assert {"pipelines/llama3", "pipelines/echo", "pipelines/qwen3"} <= models.keys()
    assert "pipelines/minilm" not in models
    return models


def test_a_model_without_a_template_continues(model):
    response = model["pipelines/echo"].prompt("abc")
    assert [*response] == ["a", "b", "c"]
    assert (response.input_tokens, response.output_tokens) == (3, 3)


def test_a_conversation_goes_on(model):
    options = {"max_new_tokens": 8}
    talk = model["pipelines/llama3"].conversation()
    replies = [
        talk.prompt("Hi", system="Be brief.", **options).text(),
        talk.prompt("And?", **options).text(),
    ]
    with pipelines.load("llama3") as loaded:
        chat = loaded.chat(system="Be brief.", max_new_tokens=8)
        assert replies == [chat.send("Hi").read().text, chat.send("And?").read().text]


def test_what_is_wrong_is_told(model):
    with pytest.raises(pipelines.PipelineError, match="no such model file"):
        model["pipelines/qwen3"].prompt("Hi", model_path="no.gguf").text()
