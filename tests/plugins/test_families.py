"""The families that plugins bring, against transformers' own implementations of them."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from families import FAMILIES, Family

from pipelines.common.errors import ModelFileError
from pipelines.common.progress import Progress
from pipelines.common.text_generation import ModelOptions
from pipelines.testing import Check, check_twin, pipeline_checks

IN_EVERY_ENCODING = ("qwen3", "qwen3moe")
"""Plain matrices, and experts; of the others each has an eighth of all, so that one has each."""


def in_every_encoding(family: Family) -> bool:
    return family.pipeline in IN_EVERY_ENCODING


def checks(number: int, family: Family) -> list[Check]:
    """What a family is held to, given its number among those that have an eighth."""
    every = pipeline_checks(family.subject)
    if in_every_encoding(family):
        return every
    stored = [check for check in every if check.name.startswith("stored in ")]
    left_out = [check for place, check in enumerate(stored) if (place - number) % 8]
    return [check for check in every if check not in left_out]


EVERY_CHECK = [
    pytest.param(check, id=f"{family.pipeline}: {check}")
    for number, family in enumerate(sorted(FAMILIES, key=in_every_encoding))
    for check in checks(number, family)
]


@pytest.mark.parametrize("check", EVERY_CHECK)
def test_checks(check: Check) -> None:
    check()


@pytest.fixture(params=FAMILIES, ids=lambda family: family.pipeline)
def family(request: pytest.FixtureRequest) -> Family:
    return request.param


def test_logits_are_those_of_transformers(family: Family) -> None:
    check_twin(
        family.subject, family.twin(), values=family.as_twin_has, join=family.join, allowed=1e-5
    )


def test_another_pipeline_names_the_one_for_the_file(family: Family, tmp_path: Path) -> None:
    registry, name = family.subject.registry, family.pipeline
    path = family.subject.write(tmp_path / "tiny.gguf")
    architecture = family.subject.checkpoint.metadata.string("general.architecture")
    other, runs = ("qwen3", "qwen3") if name == "llama3" else ("llama3", "llama")
    with pytest.raises(
        ModelFileError,
        match=rf"'{architecture}'; pipeline {other} runs '{runs}'; use pipeline {name}$",
    ):
        registry.load_pipeline(other).open(ModelOptions(model_path=path), registry, Progress())


def test_every_tensor_is_needed(family: Family, tmp_path: Path) -> None:
    """No file without one of its tensors runs, and none with one more."""
    subject = family.subject
    data = subject.write(tmp_path / "tiny.gguf").read_bytes()
    for name in subject.checkpoint.tensors:
        encoded = struct.pack("<Q", len(name)) + name.encode()
        assert data.count(encoded) == 1
        (tmp_path / "m.gguf").write_bytes(data.replace(encoded, encoded[:-1] + b"X"))
        with pytest.raises(ModelFileError) as error:
            subject.at(tmp_path / "m.gguf").open()
        assert name[:-1] in str(error.value) or "missing" in str(error.value)
