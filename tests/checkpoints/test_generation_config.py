"""What ``generation_config.json`` says of sampling, in GGUF's keys."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import pytest
from transformers import GenerationConfig

from pipelines.common.checkpoints.huggingface.generation import sampling_metadata
from pipelines.common.errors import ModelFileError

STATED = {"do_sample": True, "temperature": 0.6, "top_k": 20, "top_p": 0.95, "min_p": 0.01}


def found(folder: Path, stated: dict[str, Any] | str) -> dict[str, Any]:
    text = stated if isinstance(stated, str) else json.dumps(stated)
    (folder / "generation_config.json").write_text(text)
    return {
        key.removeprefix("general.sampling."): value
        for key, value in sampling_metadata(folder).items()
    }


def test_keys_and_values_are_those_of_the_gguf_package(tmp_path: Path) -> None:
    values = found(tmp_path, STATED)
    judge = gguf.Metadata.load(model_path=tmp_path)
    assert set(values) == {"temp", "top_k", "top_p", "min_p"}
    for name, value in values.items():
        assert value == getattr(judge, f"sampling_{name}")
        assert f"general.sampling.{name}" == getattr(gguf.Keys.General, f"SAMPLING_{name.upper()}")
    assert gguf.Keys.General.SAMPLING_PENALTY_REPEAT == "general.sampling.penalty_repeat"


def test_files_of_transformers(tmp_path: Path) -> None:
    config = GenerationConfig(**STATED, repetition_penalty=1.05, typical_p=0.9)
    config.save_pretrained(tmp_path)
    text = (tmp_path / "generation_config.json").read_text()
    assert found(tmp_path, text) == {
        "temp": 0.6,
        "top_k": 20,
        "top_p": 0.95,
        "min_p": 0.01,
        "penalty_repeat": 1.05,
        "typical_p": 0.9,
    }


@pytest.mark.parametrize(
    ("stated", "values"),
    [
        ({}, {}),
        ({"eos_token_id": 2}, {}),
        ({"do_sample": True}, {"temp": 1.0}),
        ({"do_sample": True, "top_k": 64}, {"temp": 1.0, "top_k": 64}),
        ({"do_sample": False, "temperature": 0.6, "top_p": 0.9}, {"temp": 0.0}),
        (
            {"do_sample": False, "repetition_penalty": 1.1},
            {"temp": 0.0, "penalty_repeat": 1.1},
        ),
        ({"temperature": 0.7, "top_p": None}, {"temp": 0.7}),
        ({"temperature": [1]}, {"temp": "[1]"}),
        ({"temperature": {"a": 1}, "top_k": 1 << 70}, {"temp": '{"a": 1}', "top_k": str(1 << 70)}),
    ],
)
def test_what_is_made_of_it(tmp_path: Path, stated: dict[str, Any], values: dict[str, Any]) -> None:
    assert found(tmp_path, stated) == values


def test_no_file_says_nothing(tmp_path: Path) -> None:
    assert sampling_metadata(tmp_path) == {}


def test_what_is_no_object_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"generation_config\.json: is JSON of something else"):
        found(tmp_path, "[1]")
