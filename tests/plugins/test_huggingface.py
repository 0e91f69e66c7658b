"""Folders that `transformers` has written, held to what it computes itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from families import FAMILIES, Family
from numpy.typing import NDArray
from transformers import PreTrainedModel

from pipelines.common.encodings.convert import dequantize
from pipelines.common.pipeline_check.backends import Backend
from pipelines.common.pipeline_check.compare import near
from pipelines.common.pipeline_check.subject import Told
from pipelines.testing import Subject
from pipelines.testing.twin import load_twin


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Family], Path]:
    """Writes a family's twin, once."""
    written: dict[int, Path] = {}

    def write(family: Family) -> Path:
        if id(family) not in written:
            folder = tmp_path_factory.mktemp(family.pipeline)
            written[id(family)] = save(family, folder)
        return written[id(family)]

    return write


def save(family: Family, folder: Path, **options: Any) -> Path:
    """A family's twin with the family's random weights, and the tokenizer of these."""
    twin = twin_of(family)
    twin.save_pretrained(folder, **options)
    family.subject.open().tokenizer.backend.save(str(folder / "tokenizer.json"))
    return folder


def twin_of(family: Family) -> PreTrainedModel:
    twin = family.twin()
    load_twin(family.subject, twin, values=family.as_twin_has)
    return twin


def logits_of(twin: PreTrainedModel, tokens: list[int]) -> NDArray[np.float32]:
    with torch.no_grad():
        made: NDArray[np.float32] = twin(torch.tensor([tokens])).logits[0].float().numpy()
    return made


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.judge.__name__)
def test_logits_are_those_of_transformers(
    family: Family, folder_of: Callable[[Family], Path]
) -> None:
    subject = Subject(family.pipeline, path=folder_of(family))
    expected = logits_of(twin_of(family), subject.tokens)
    near(subject.reference, expected, 1e-4)
    told = Told()
    runner = subject.open("cpu", native_ops=True, progress=told).start(
        slots=1, max_length=subject.room
    )
    near(runner.score(subject.tokens), expected, 1e-4)
    assert told.messages == []  # all keys are known
    near(Backend("stock", "cpu").start(subject).score(subject.tokens), expected, 1e-4)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.judge.__name__)
def test_tensors_are_those_of_a_gguf_file_but_for_the_order_of_rows(
    family: Family, folder_of: Callable[[Family], Path]
) -> None:
    ours = Subject(family.pipeline, path=folder_of(family)).checkpoint
    gguf = family.subject.checkpoint
    assert ours.tensors.keys() == gguf.tensors.keys()
    for name, info in gguf.tensors.items():
        raw = ours.raw(name)
        assert ours.tensors[name].shape == info.shape
        assert raw.nbytes == ours.tensors[name].nbytes
        values, expected = dequantize(ours.tensors[name].encoding, raw), gguf.raw(name)
        if not name.endswith(("attn_q.weight", "attn_k.weight", "attn_q.bias", "attn_k.bias")):
            np.testing.assert_allclose(values, expected.view(np.float32), rtol=0, atol=1e-6)
        middle = info.rows // 2
        np.testing.assert_array_equal(ours.raw(name, (middle, info.rows)), raw[middle:])
