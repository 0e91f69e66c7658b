"""Encodings have the gguf package's sizes and decode to its values."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
from numpy.typing import NDArray

from pipelines.common.encodings import (
    BF16,
    ENCODINGS,
    F16,
    F32,
    GGML_TYPES,
    Q4_0,
    Q4_1,
    Q5_0,
    Q6_K,
    Q8_0,
    Encoding,
    advice,
)
from pipelines.common.encodings.convert import dequantize, encoded

SEVERAL_CHUNKS = (1200, 1024)


def random_rows(encoding: Encoding, shape: tuple[int, int], seed: int = 0) -> NDArray[np.uint8]:
    """Any bytes at all: every scale and every quant, not-a-numbers and infinities too."""
    rows, k = shape
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (rows, encoding.row_bytes(k)), np.uint8)


REMOVED = {
    4: "q4_2",
    5: "q4_3",
    31: "q4_0_4_4",
    32: "q4_0_4_8",
    33: "q4_0_8_8",
    36: "iq4_nl_4_4",
    37: "iq4_nl_4_8",
    38: "iq4_nl_8_8",
}
"""Numbers that ggml.h has in comments: https://github.com/ggml-org/ggml/blob/master/include/ggml.h"""


def test_sizes_and_names_are_ggmls() -> None:
    # The package has q8_1 with scales of four bytes, as it was before 2024, and no q2_0 yet.
    others = {"q8_1": (32, 36), "q2_0": (64, 18)}
    current = {n: encoding for n, encoding in GGML_TYPES.items() if not encoding.successor}
    for number, encoding in current.items():
        sizes = others.get(encoding.name)
        if sizes is None:
            ggml = gguf.GGMLQuantizationType(number)
            assert encoding.name == ggml.name.lower()
            sizes = gguf.GGML_QUANT_SIZES[ggml]
        assert (encoding.block_size, encoding.block_bytes) == sizes
        assert encoding.ggml_type == number
    assert current.keys() >= set(gguf.GGML_QUANT_SIZES)


@pytest.mark.parametrize("number", REMOVED)
def test_what_ggml_has_removed_is_known_by_name(number: int) -> None:
    removed = GGML_TYPES[number]
    assert removed.name == REMOVED[number]
    assert not removed.supported
    assert advice(removed).startswith(f"{removed} was removed from ggml, {removed.successor} took")
    # A file in what took its place would have to run.
    named = advice(removed).rpartition(" in ")[2].lower().replace(" or ", ", ").split(", ")
    assert named == ([removed.successor] if removed.successor in ENCODINGS else [*ENCODINGS])


def test_only_listed_encodings_are_supported() -> None:
    assert {e.name for e in GGML_TYPES.values() if e.supported} == set(ENCODINGS)
    assert {*ENCODINGS} == {
        *("f32", "f16", "bf16", "q8_0", "q5_0", "q5_1", "q4_0", "q4_1"),
        *("q6_k", "q5_k", "q4_k", "q3_k", "q2_k", "iq4_nl", "iq4_xs", "mxfp4"),
    }


@pytest.mark.parametrize("encoding", ENCODINGS.values(), ids=str)
def test_what_the_gguf_package_writes_is_written(encoding: Encoding) -> None:
    kind = gguf.GGMLQuantizationType(encoding.ggml_type)
    try:
        gguf.quants.quantize(np.ones((1, 256), np.float32), kind)
    except NotImplementedError:
        assert encoding.encode is None
    else:
        assert encoding.encode is not None


@pytest.mark.parametrize("encoding", ENCODINGS.values(), ids=str)
def test_values_of_blocks_that_nothing_writes_are_about_as_large(encoding: Encoding) -> None:
    values = np.random.default_rng(0).normal(0, 0.1, (64, 1024)).astype(np.float32)
    made = dequantize(encoding, encoded(values, encoding))
    assert made.std() == pytest.approx(values.std(), rel=0.05)
    assert abs(made.mean()) < 0.02 * values.std()


def test_row_sizes() -> None:
    assert Q4_0.row_bytes(64) == 36
    assert Q4_0.row_length(36) == 64
    with pytest.raises(ValueError, match="row of 48"):
        Q4_0.row_bytes(48)
    with pytest.raises(ValueError, match="35 bytes"):
        Q4_0.row_length(35)


@pytest.mark.parametrize("encoding", ENCODINGS.values(), ids=str)
@pytest.mark.parametrize("shape", [(1, 256), (7, 512), SEVERAL_CHUNKS], ids=str)
def test_decodes_as_the_gguf_package_does(encoding: Encoding, shape: tuple[int, int]) -> None:
    raw = random_rows(encoding, shape)
    with np.errstate(all="ignore"):
        expected = gguf.quants.dequantize(raw, gguf.GGMLQuantizationType(encoding.ggml_type))
    values = dequantize(encoding, raw)
    assert values.dtype == np.float32
    assert values.shape == shape
    np.testing.assert_array_equal(values, expected)


@pytest.mark.parametrize("encoding", [Q4_0, Q4_1, Q5_0, Q8_0, Q6_K], ids=str)
def test_decodes_by_the_formulas_of_the_table(encoding: Encoding) -> None:
    blocks = random_rows(encoding, (4, encoding.block_size), seed=1)
    scale_at = 208 if encoding == Q6_K else 0
    blocks[:, scale_at : scale_at + 2] = (
        np.array([[0x0001, 0x3C00, 0xBC01, 0x7BFF]]).T.astype("<u2").view(np.uint8)
    )
    if encoding == Q4_1:
        blocks[:, 2:4] = blocks[::-1, :2]
    for block, values in zip(blocks, dequantize(encoding, blocks), strict=True):
        expected = [by_formula(encoding, block, i) for i in range(encoding.block_size)]
        np.testing.assert_array_equal(values, np.array(expected, np.float32))


def by_formula(encoding: Encoding, block: NDArray[np.uint8], i: int) -> float:
    """Element `i` of a block, computed the slow way."""

    def half(at: int) -> np.float32:
        return np.float32(block[at : at + 2].view("<f2")[0])

    if encoding == Q8_0:
        return half(0) * block[2 + i].view(np.int8)
    if encoding == Q4_0:
        return half(0) * (int(block[2 + i % 16] >> (4 * (i // 16)) & 15) - 8)
    if encoding == Q4_1:
        return half(0) * int(block[4 + i % 16] >> (4 * (i // 16)) & 15) + half(2)
    if encoding == Q5_0:
        nibble = int(block[6 + i % 16] >> (4 * (i // 16)) & 15)
        fifth = int(block[2:6].view("<u4")[0]) >> i & 1
        return half(0) * (nibble + 16 * fifth - 16)
    # q6_k: two halves of 128, each of four groups of 32 that share their bytes.
    part, group, at = i // 128, i % 128 // 32, i % 32
    low = block[64 * part + 32 * (group % 2) + at] >> (4 * (group // 2)) & 15
    high = block[128 + 32 * part + at] >> (2 * group) & 3
    return half(208) * block[192 + i // 16].view(np.int8) * (int(low | high << 4) - 32)


def test_float32_is_not_copied() -> None:
    raw = random_rows(F32, (2, 8))
    assert np.shares_memory(dequantize(F32, raw), raw)


@pytest.mark.parametrize("encoding", [F16, BF16], ids=str)
def test_decodes_read_only_bytes(encoding: Encoding) -> None:
    raw = random_rows(encoding, (2, 8))
    raw.flags.writeable = False
    assert dequantize(encoding, raw).shape == (2, 8)
