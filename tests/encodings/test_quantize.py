"""Quantizing gives the gguf package's bytes, whatever the values."""

from __future__ import annotations

import _thread
import time

import gguf
import numpy as np
import pytest
from numpy.typing import NDArray

from pipelines.common.encodings import BF16, F16, MXFP4, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Encoding
from pipelines.common.encodings.convert import convert_rows, dequantize, quantize
from pipelines.common.parallel import for_row_chunks

GENERATOR = np.random.default_rng(0)
NORMAL = GENERATOR.standard_normal((1200, 1024)).astype(np.float32)
VALUES = {
    "several chunks": NORMAL,
    "tiny": NORMAL[:3] * np.float32(1e-40),
    "huge": NORMAL[:3] * np.float32(5e37),
    "mixed": NORMAL[:64] * np.exp(GENERATOR.uniform(-90, 80, (64, 1))).astype(np.float32),
    "zeros": np.zeros((2, 64), np.float32),
    "negative zeros": -np.zeros((2, 64), np.float32),
    "constant": np.full((2, 64), -0.3, np.float32),
    "halfway": np.tile(np.arange(-16, 16, dtype=np.float32) / 4, (1, 2)),
}


@pytest.mark.parametrize("encoding", [Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, MXFP4, F16, BF16], ids=str)
@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_encodes_as_the_gguf_package_does(encoding: Encoding, values: NDArray[np.float32]) -> None:
    with np.errstate(all="ignore"):
        expected = gguf.quants.quantize(values, gguf.GGMLQuantizationType(encoding.ggml_type))
    raw = quantize(encoding, values)
    assert raw.shape == (len(values), encoding.row_bytes(values.shape[1]))
    assert raw.tobytes() == expected.tobytes()


def test_a_row_must_be_whole_blocks() -> None:
    with pytest.raises(ValueError, match="row of 48"):
        quantize(Q4_0, np.zeros((1, 48), np.float32))


@pytest.mark.parametrize("encoding", [Q4_0, Q5_0], ids=str)
def test_signed_codes_become_q8_0_without_loss(encoding: Encoding) -> None:
    raw = quantize(encoding, NORMAL)
    converted = convert_rows(encoding, Q8_0, raw)
    np.testing.assert_array_equal(dequantize(Q8_0, converted), dequantize(encoding, raw))
    # Encoding the values anew would choose other scales, and lose.
    assert converted.tobytes() != quantize(Q8_0, dequantize(encoding, raw)).tobytes()


def test_an_interrupted_program_does_not_wait_for_all_rows() -> None:
    begun: list[slice] = []

    def work(chunk: slice) -> None:
        begun.append(chunk)
        if chunk.start == 0:
            _thread.interrupt_main()
        time.sleep(0.001)

    with pytest.raises(KeyboardInterrupt):
        for_row_chunks(10_000, 1 << 19, work)
    assert len(begun) < 5_000
