"""Encoders against transformers' BERT."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from berts import PIECES, tiny, vectors, write
from transformers import BertTokenizerFast

from pipelines.common.errors import (
    ModelFileError,
    PromptError,
    TokenizerError,
    UsageError,
)
from pipelines.common.models.encoder import Embeddings, EncoderModel
from pipelines.common.pipeline_check.stand_ins import CoreMLOnCpu, CudaOnCpu
from pipelines.common.progress import Progress
from pipelines.common.registry.registry import Registry
from pipelines.common.text.word_pieces import WordPieces
from pipelines.common.text_generation import ModelOptions

TEXTS = [
    "The cat sat on a mat!",
    "Dogs RUN",
    "cafés sitting",
    "the mat",
    "  a\tdog \n running on mats!!",
    "什么 the",
    "",
]


def opened(path: Path, **options: Any) -> EncoderModel:
    registry = Registry.discover()
    chosen = ModelOptions(model_path=path, **{"encoding": "float32", "target": "cpu", **options})
    return registry.load_pipeline("minilm").open(chosen, registry, Progress())


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("bert") / "tiny.gguf", tiny())


@pytest.mark.parametrize("text", TEXTS)
def test_pieces_are_those_of_transformers(path: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "vocab.txt").write_text("\n".join(PIECES))
    judge = BertTokenizerFast(vocab=str(tmp_path / "vocab.txt"))
    assert opened(path).tokenizer.encode(text) == judge(text)["input_ids"]


STARTS = {
    "native": {},
    "stock": {"native_ops": False},
    "torch": {"target": "torch"},
    "cuda": {"target": "cuda", "on": CudaOnCpu()},
    "coreml": {"target": "coreml", "on": CoreMLOnCpu()},
}


@pytest.mark.parametrize("where", STARTS)
def test_vectors_are_those_of_transformers(path: Path, where: str) -> None:
    options = dict(STARTS[where])
    on = options.pop("on", None)
    model = opened(path, **options)
    texts = [model.tokenizer.encode(text) for text in TEXTS]
    made = model.start(on).encode(texts)
    allowed = 0.02 if where == "coreml" else 1e-5  # which computes in float16
    for tokens, found in zip(texts, made, strict=True):
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, vectors(tiny(), tokens), atol=allowed)


@pytest.mark.parametrize("encoding", ["q4_0", "q8_0"])
@pytest.mark.parametrize("where", ["cuda", "coreml"])
def test_matrices_in_blocks(path: Path, encoding: str, where: str) -> None:
    options = dict(STARTS[where])
    on = options.pop("on", None)
    tokens = opened(path).tokenizer.encode(TEXTS[0])
    (exact,) = opened(path, encoding=encoding, target="torch").start().encode([tokens])
    (found,) = opened(path, encoding=encoding, **options).start(on).encode([tokens])
    assert np.abs(exact - vectors(tiny(), tokens)).max() > 1e-3
    assert np.abs(found - exact).max() < 0.1 * np.abs(exact).max()


def test_a_texts_vectors_do_not_depend_on_others(path: Path) -> None:
    model = opened(path)
    encoder = model.start()
    texts = [model.tokenizer.encode(text) for text in TEXTS]
    together = encoder.encode([*texts, *texts[::-1]])
    for tokens, first, second in zip(texts, together, together[len(texts) :][::-1], strict=False):
        (alone,) = encoder.encode([tokens])
        np.testing.assert_array_equal(first, alone)
        np.testing.assert_array_equal(second, alone)


def test_pooling(path: Path) -> None:
    model = opened(path)
    tokens = model.tokenizer.encode(TEXTS[0])
    each = vectors(tiny(), tokens)
    expected = {"mean": each.mean(0), "cls": each[0], "last": each[-1]}
    for pooling, vector in expected.items():
        (found,) = Embeddings(model.start(), pooling, normalize=False).of([tokens])
        np.testing.assert_allclose(found, vector, atol=1e-5)
        (found,) = Embeddings(model.start(), pooling).of([tokens])
        np.testing.assert_allclose(found, vector / np.linalg.norm(vector), atol=1e-5)


@pytest.mark.parametrize(("number", "name"), [(1, "mean"), (2, "cls"), (3, "last"), (None, "mean")])
def test_a_file_says_how_vectors_are_pooled(tmp_path: Path, number: int | None, name: str) -> None:
    assert opened(write(tmp_path / "m.gguf", tiny(), pooling=number)).pooling == name


def test_what_no_encoder_takes(path: Path) -> None:
    encoder = opened(path).start()
    for wrong in ([], [1] * 33, [-1], [len(PIECES)]):
        with pytest.raises(UsageError):
            encoder.encode([[2, 3], wrong])


def test_lone_surrogates(path: Path) -> None:
    with pytest.raises(PromptError, match="not valid Unicode at character 4"):
        opened(path).tokenizer.encode("the \ud800")


@pytest.mark.parametrize(
    ("pieces", "message"),
    [
        (["[PAD]", "[UNK]", "[CLS]", "the"], r"the vocabulary lacks \[SEP\]"),
        (["[UNK]", "[CLS]", "[SEP]", "the", "the"], "has a piece twice"),
    ],
)
def test_vocabularies_that_cannot_be_used(pieces: list[str], message: str) -> None:
    with pytest.raises(TokenizerError, match=message):
        WordPieces(pieces, "m.gguf")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("bert.attention.head_count", 7, "a width of 64 cannot be divided by 7 heads"),
        ("bert.attention.head_count", 0, "is 0; expected a number from 1 to"),
        ("bert.block_count", 4000, "metadata says 4000 blocks, but the file has only"),
        ("bert.block_count", 3, r"missing tensors: blk\.2\.attn_q\.weight"),
        ("bert.context_length", 16, r"position_embd.weight is \[32, 64\], expected \[16, 64\]"),
    ],
)
def test_files_that_contradict_themselves(
    path: Path, tmp_path: Path, key: str, value: int, message: str
) -> None:
    changed = tmp_path / "m.gguf"
    changed.write_bytes(path.read_bytes())
    field = gguf.GGUFReader(changed, "r+").fields[key]
    field.parts[field.data[0]][0] = value
    with pytest.raises(ModelFileError, match=message) as error:
        opened(changed)
    assert "\n" not in str(error.value)
