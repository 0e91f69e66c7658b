"""Weights laid out for ONNX Runtime stand for the values that `gguf` decodes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from operator_graphs import Matrix, stored

from pipelines.common.encodings import WITH_OFFSETS, WITHOUT_OFFSETS
from pipelines.common.graph.rules import LoweredWeight
from pipelines.common.ort.layouts import LAYOUTS
from pipelines.common.program.tensors import make_tensors, named
from pipelines.common.program.weights import WeightSource

BITS_AND_BLOCK = {
    "q4_0": (4, 32),
    "q4_1": (4, 32),
    "q5_0": (8, 32),
    "q8_0": (8, 32),
    "q6_k": (8, 16),
    "q5_1": (8, 32),
    "q5_k": (8, 32),
    "q4_k": (4, 32),
    "q3_k": (4, 16),
    "q2_k": (4, 16),
    "iq4_nl": (8, 32),
    "iq4_xs": (8, 32),
    "mxfp4": (8, 32),
}


def laid_out(source: WeightSource, layout: str, shape: tuple[int, ...]) -> NDArray[Any]:
    dtype = {"codes": "uint8", "float16": "float16"}.get(layout, "float32")
    wanted = LoweredWeight("tensor", "weight", layout, dtype, shape, constant=True)
    return named(make_tensors(source, [wanted], LAYOUTS))["tensor"]


def decoded(path: Path, matrix: Matrix) -> NDArray[np.float32]:
    """``(code - 2**(bits - 1)) * scale + offset``; at four bits the low nibble comes first."""
    rows, columns = matrix.shape
    bits, block = BITS_AND_BLOCK[matrix.encoding.name]
    source = stored(path, {"weight": matrix})
    codes = laid_out(source, "codes", (rows, columns // block, block * bits // 8))
    if bits == 4:
        codes = np.stack([codes & 15, codes >> 4], axis=-1)
    scales = laid_out(source, "scales", (rows, columns // block, 1))
    codes = codes.reshape(rows, columns // block, block)
    values = (codes.astype(np.float32) - 2 ** (bits - 1)) * scales
    if matrix.encoding.name in WITH_OFFSETS:
        values += laid_out(source, "offsets", (rows, columns // block, 1))
    return values.reshape(rows, columns)


@pytest.mark.parametrize("encoding", WITHOUT_OFFSETS)
@pytest.mark.parametrize("shape", [(3, 256), (1, 4096), (700, 512)])
def test_exact(tmp_path: Path, encoding: str, shape: tuple[int, int]) -> None:
    matrix = Matrix.random(encoding, *shape)
    np.testing.assert_array_equal(decoded(tmp_path / "weights.gguf", matrix), matrix.values)


@pytest.mark.parametrize("encoding", WITH_OFFSETS)
@pytest.mark.parametrize("shape", [(3, 256), (700, 512)])
def test_to_the_last_bits(tmp_path: Path, encoding: str, shape: tuple[int, int]) -> None:
    matrix = Matrix.random(encoding, *shape)
    values = decoded(tmp_path / "weights.gguf", matrix)
    np.testing.assert_allclose(values, matrix.values, atol=1e-6 * matrix.values.std())


def test_tied_weights_share_their_memory(tmp_path: Path) -> None:
    matrix = Matrix.random("q6_k", 4, 512)
    wanted = [
        LoweredWeight("head", "head", "codes", "uint8", (4, 32, 16), constant=True),
        LoweredWeight("rows", "embedding", "codes_by_row", "uint8", (4, 512), constant=True),
    ]
    source = stored(tmp_path / "weights.gguf", {"head": matrix, "embedding": matrix})
    tensors = named(make_tensors(source, wanted, LAYOUTS))
    assert np.shares_memory(tensors["head"], tensors["rows"])


def test_what_the_file_holds_in_the_wanted_form_is_not_copied(tmp_path: Path) -> None:
    source = stored(tmp_path / "weights.gguf", {"weight": Matrix.random("f16", 4, 64)})
    assert np.shares_memory(laid_out(source, "float16", (4, 64)), source.raw("weight"))
