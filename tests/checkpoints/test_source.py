"""What each weight runs in, row by row of the policy, and that its bytes are the right ones."""

from __future__ import annotations

import errno
import gc
import os
import tracemalloc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from numpy.typing import NDArray
from random_blocks import random_blocks

from pipelines.common import parallel
from pipelines.common.cache import Cache
from pipelines.common.checkpoints.gguf.reader import open_gguf
from pipelines.common.checkpoints.table import Kind, Weight
from pipelines.common.encodings import ENCODINGS
from pipelines.common.encodings.convert import dequantize
from pipelines.common.encodings.requests import REQUESTS
from pipelines.common.errors import ModelFileError, UsageError
from pipelines.common.program import weights as source_module
from pipelines.common.program.weights import WeightSource, run_encoding

FLOATS = ("f32", "f16", "bf16")
SIGNED = ("q8_0", "q5_0", "q4_0", "iq4_nl")
LARGE = ("q5_1", "q6_k", "q5_k")
SMALL = ("q4_0", "q4_1", "q4_k", "q3_k", "q2_k", "iq4_nl", "iq4_xs", "mxfp4")
STORED = (*dict.fromkeys((*FLOATS, *SIGNED, *LARGE, *SMALL)),)
AS_STORED = dict.fromkeys(STORED)
POLICY: dict[tuple[str, Kind], dict[str, str | None]] = {
    ("auto", "linear"): AS_STORED,
    ("auto", "embedding"): AS_STORED,
    ("auto", "head"): AS_STORED,
    ("float32", "linear"): dict.fromkeys(STORED, "f32"),
    ("float32", "embedding"): dict.fromkeys(STORED, "f32"),
    ("float32", "head"): dict.fromkeys(STORED, "f32"),
    ("q4_0", "linear"): dict.fromkeys(STORED, "q4_0") | dict.fromkeys(SMALL),
    ("q4_0", "embedding"): AS_STORED | {"f32": "q8_0", "f16": "q8_0", "bf16": "q8_0"},
    ("q4_0", "head"): AS_STORED | {"f32": "q8_0", "f16": "q8_0", "bf16": "q8_0"},
    **{
        ("q8_0", kind): AS_STORED | dict.fromkeys((*FLOATS, *SIGNED), "q8_0")
        for kind in ("linear", "embedding", "head")
    },
}


@pytest.mark.parametrize(("request_", "kind"), POLICY)
@pytest.mark.parametrize("stored", STORED)
def test_policy(request_: str, kind: Kind, stored: str) -> None:
    expected = POLICY[request_, kind][stored] or stored
    assert run_encoding(request_, kind, ENCODINGS[stored]).name == expected


@pytest.mark.parametrize("request_", REQUESTS)
@pytest.mark.parametrize("stored", STORED)
def test_vectors_always_run_in_float32(request_: str, stored: str) -> None:
    assert run_encoding(request_, "vector", ENCODINGS[stored]).name == "f32"


def encoded(values: NDArray[np.float32], encoding: str) -> NDArray[np.generic]:
    """Values as the gguf package stores them; random blocks for what it cannot quantize."""
    kind = ENCODINGS[encoding]
    if kind.encode is not None:
        return gguf.quants.quantize(values, gguf.GGMLQuantizationType(kind.ggml_type))
    count = values.size // kind.block_size
    blocks = random_blocks(kind, count, np.random.default_rng(1), 0.001)
    return blocks.reshape(*values.shape[:-1], -1)


def write(path: Path, tensors: dict[str, tuple[tuple[int, ...], str]]) -> Path:
    """A file of random tensors, given the shape and encoding of each."""
    generator = np.random.default_rng(0)
    writer = gguf.GGUFWriter(path, "llama")
    for name, (shape, encoding) in tensors.items():
        data = encoded(generator.standard_normal(shape).astype(np.float32), encoding)
        writer.add_tensor(name, data, raw_dtype=gguf.GGMLQuantizationType[encoding.upper()])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


TABLE = [
    Weight("embedding", "embd", (12, 256), "embedding"),
    Weight("linear", "lin", (6, 256), "linear"),
    Weight("second", "lin2", (6, 512), "linear"),
    Weight("norm", "norm", (256,), "vector"),
    Weight("head", "embd", (12, 256), "head"),
]

Opener = Callable[..., WeightSource]


@pytest.fixture
def warnings() -> list[str]:
    return []


@pytest.fixture
def source(tmp_path: Path, warnings: list[str]) -> Opener:
    """Opens a source over a file whose matrices have the encoding `stored`."""

    def make(stored: str, request_: str, cache: Path = tmp_path / "cache") -> WeightSource:
        path = tmp_path / f"{stored}.gguf"
        if not path.exists():
            shapes = {weight.tensor: weight.shape for weight in TABLE}
            write(
                path,
                {
                    name: (shape, "f16" if name == "norm" else stored)
                    for name, shape in shapes.items()
                },
            )
        return WeightSource(open_gguf(path), TABLE, request_, Cache(cache), warn=warnings.append)

    return make


@pytest.mark.parametrize("request_", REQUESTS)
@pytest.mark.parametrize("stored", STORED)
def test_bytes_are_what_the_gguf_package_makes(
    tmp_path: Path, source: Opener, stored: str, request_: str
) -> None:
    weights = source(stored, request_)
    reference = {t.name: t for t in gguf.GGUFReader(tmp_path / f"{stored}.gguf").tensors}
    total = 0
    for weight in TABLE:
        run = weights.encodings[weight.parameter]
        assert run == run_encoding(request_, weight.kind, weights.stored(weight.parameter))
        tensor = reference[weight.tensor]
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        raw = weights.raw(weight.parameter)
        assert raw.dtype == np.uint8
        assert raw.shape == (values.size // values.shape[-1], run.row_bytes(values.shape[-1]))
        if run == weights.stored(weight.parameter):
            assert raw.tobytes() == tensor.data.tobytes()
        elif run.name == "q8_0" and stored in SIGNED:
            np.testing.assert_array_equal(dequantize(run, raw), values)
        else:
            assert raw.tobytes() == encoded(values, run.name).tobytes()
        floats = weights.float32(weight.parameter)
        assert floats.shape == weight.shape
        np.testing.assert_array_equal(
            floats.reshape(len(raw), -1),
            gguf.quants.dequantize(raw, gguf.GGMLQuantizationType(run.ggml_type)),
        )
        total += raw.nbytes if weight.parameter != "head" else 0
    assert weights.total_bytes == total


@pytest.mark.parametrize(
    ("stored", "request_", "notice"),
    [
        ("q4_0", "auto", None),
        ("q4_0", "q4_0", None),
        ("q8_0", "q8_0", None),
        ("f32", "float32", None),
        ("f16", "q4_0", "1 matrix f16 to q8_0, 2 matrices f16 to q4_0"),
        ("f16", "q8_0", "3 matrices f16 to q8_0"),
        ("q4_0", "q8_0", "3 matrices q4_0 to q8_0"),
        ("q5_0", "q8_0", "3 matrices q5_0 to q8_0"),
        ("q5_0", "q4_0", "2 matrices q5_0 to q4_0"),
        ("q6_k", "q4_0", "2 matrices q6_k to q4_0"),
        ("q6_k", "float32", "3 matrices q6_k to f32"),
        ("q4_1", "q8_0", "3 matrices kept as q4_1"),
        ("q4_k", "auto", None),
        ("q4_k", "q4_0", None),
        ("iq4_nl", "q8_0", "3 matrices iq4_nl to q8_0"),
        ("q5_k", "q4_0", "2 matrices q5_k to q4_0"),
    ],
)
def test_notice(source: Opener, stored: str, request_: str, notice: str | None) -> None:
    expected = None if notice is None else f"quantization encoding {request_}: {notice}"
    assert source(stored, request_).notice == expected


def test_what_runs_as_stored_is_the_mapped_file(source: Opener) -> None:
    weights = source("q4_0", "q4_0")
    assert np.shares_memory(weights.raw("embedding"), weights.raw("head"))
    assert not weights.raw("linear").flags.writeable


def test_tied_weights_in_different_encodings_are_told_apart(tmp_path: Path) -> None:
    path = write(tmp_path / "tied.gguf", {"t": ((4, 64), "f16")})
    table = [Weight("a", "t", (4, 64), "embedding"), Weight("b", "t", (4, 64), "linear")]
    weights = WeightSource(open_gguf(path), table, "q4_0", Cache(tmp_path / "c"), warn=print)
    assert weights.identity("a") != weights.identity("b")
    assert weights.raw("a").shape == (4, 68)
    assert weights.raw("b").shape == (4, 36)
    assert weights.total_bytes == 4 * (68 + 36)


def test_opening_converts_nothing(source: Opener, tmp_path: Path) -> None:
    source("f16", "q4_0")
    assert not (tmp_path / "cache").exists()


def test_tied_weights_share_one_conversion(source: Opener) -> None:
    quantized = source("f16", "q8_0")
    assert np.shares_memory(quantized.raw("embedding"), quantized.raw("head"))
    assert quantized.identity("embedding") == quantized.identity("head")
    decoded = source("f16", "float32")
    embedding = decoded.float32("embedding")
    assert np.shares_memory(embedding, decoded.float32("head"))
    assert np.shares_memory(embedding, decoded.raw("head"))


def test_decoded_values_are_dropped_with_their_last_user(source: Opener) -> None:
    weights = source("f16", "float32")
    values = weights.float32("linear")
    owner = weakref.ref(values.base)
    del values
    gc.collect()
    assert owner() is None


def test_quantized_weights_are_mapped_from_the_cache(source: Opener, tmp_path: Path) -> None:
    first = source("f16", "q4_0")
    expected = {name: first.raw(name).tobytes() for name in first.encodings}
    (entry,) = Cache(tmp_path / "cache").entries()
    assert entry.kind == "weights"
    assert entry.description == f"f16.gguf: {first.notice}"
    (file,) = (path for path in entry.path.iterdir() if path.name != "meta.json")
    converted = ("embedding", "linear", "second")
    assert file.stat().st_size == sum(len(expected[name]) for name in converted)
    written = file.stat().st_mtime_ns
    again = source("f16", "q4_0")
    assert {name: again.raw(name).tobytes() for name in again.encodings} == expected
    assert file.stat().st_mtime_ns == written
    assert not again.raw("linear").flags.writeable


@pytest.mark.parametrize("change", ["request", "file"])
def test_cached_weights_are_not_used_for_anything_else(
    source: Opener, tmp_path: Path, change: str
) -> None:
    source("f16", "q4_0").raw("linear")
    if change == "file":  # in the middle of a matrix, in place, and with the time set back
        path = tmp_path / "f16.gguf"
        status = path.stat()
        with path.open("rb+") as file:
            file.seek(status.st_size // 2)
            file.write(b"\x00\x3c")
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    source("f16", "q4_0" if change == "file" else "q8_0").raw("linear")
    assert len(Cache(tmp_path / "cache").entries()) == 2


def test_touching_a_file_changes_nothing(source: Opener, tmp_path: Path) -> None:
    expected = source("f16", "q4_0").raw("linear").tobytes()
    os.utime(tmp_path / "f16.gguf", ns=(0, 0))
    assert source("f16", "q4_0").raw("linear").tobytes() == expected
    assert len(Cache(tmp_path / "cache").entries()) == 1


def test_a_file_that_changes_while_it_is_converted_is_refused(
    source: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = source("f16", "q4_0")
    convert_rows = source_module.convert_rows

    def convert(*args: Any) -> NDArray[np.uint8]:
        with (tmp_path / "f16.gguf").open("rb+") as file:
            file.seek(-2, os.SEEK_END)
            file.write(b"\x00\x3c")
        return convert_rows(*args)

    monkeypatch.setattr(source_module, "convert_rows", convert)
    with pytest.raises(ModelFileError, match=r"f16\.gguf: has changed while it was read"):
        weights.raw("linear")
    assert Cache(tmp_path / "cache").entries() == []


def test_decoding_is_not_cached(source: Opener, tmp_path: Path) -> None:
    source("q6_k", "float32").raw("linear")
    assert not (tmp_path / "cache").exists()


def test_a_damaged_cache_entry_is_made_again(source: Opener, tmp_path: Path) -> None:
    expected = source("f16", "q4_0").raw("second").tobytes()
    (entry,) = Cache(tmp_path / "cache").entries()
    (file,) = (path for path in entry.path.iterdir() if path.name != "meta.json")
    os.truncate(file, 100)
    assert source("f16", "q4_0").raw("second").tobytes() == expected


def test_an_unwritable_cache_leaves_the_weights_in_memory(
    source: Opener, tmp_path: Path, warnings: list[str]
) -> None:
    (tmp_path / "file").touch()
    weights = source("f16", "q4_0", tmp_path / "file")
    expected = {name: source("f16", "q4_0").raw(name).tobytes() for name in weights.encodings}
    assert {name: weights.raw(name).tobytes() for name in weights.encodings} == expected
    (warning,) = warnings
    assert "cache folder" in warning and "\n" not in warning


def test_a_full_disk_leaves_the_weights_in_memory(
    source: Opener, tmp_path: Path, warnings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = source("f16", "q4_0").raw("linear").tobytes()

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    weights = source("f16", "q4_0", tmp_path / "full")
    assert weights.raw("linear").tobytes() == expected
    assert weights.raw("head").shape == (12, 272)
    (warning,) = warnings
    assert "No space left on device" in warning
    assert Cache(tmp_path / "full").entries() == []


def test_partial_writes_are_continued(
    source: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = source("f16", "q4_0").raw("second").tobytes()
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: pwrite(fd, data[:100], at))
    assert source("f16", "q4_0", tmp_path / "other").raw("second").tobytes() == expected


def test_rows_that_do_not_fill_blocks_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "odd.gguf", {"odd": ((4, 40), "f16")})
    table = [Weight("odd", "odd", (4, 40), "linear")]
    cache = Cache(tmp_path / "cache")
    for request_ in ("q4_0", "q8_0"):
        with pytest.raises(ModelFileError) as raised:
            WeightSource(open_gguf(path), table, request_, cache, warn=print)
        assert str(raised.value) == (
            f"{path}: tensor 'odd' has rows of 40 elements, which {request_}'s blocks of 32 do not "
            "divide; use `encoding` auto or float32"
        )
    for request_ in ("auto", "float32"):
        assert WeightSource(open_gguf(path), table, request_, cache, warn=print).float32(
            "odd"
        ).shape == (4, 40)


def test_unknown_requests_are_refused(source: Opener) -> None:
    with pytest.raises(UsageError, match="q5_k: files in it run as they are, and"):
        source("f16", "q5_k")


def test_quantizing_holds_few_rows_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel, "cores", lambda: 2)
    rows, k = 8192, 1024
    path = write(tmp_path / "large.gguf", {"large": ((rows, k), "f16")})
    table = [Weight("large", "large", (rows, k), "linear")]
    weights = WeightSource(open_gguf(path), table, "q4_0", Cache(tmp_path / "c"), warn=print)
    tracemalloc.start()
    try:
        weights.raw("large")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < rows * k  # a float32 copy would take four times that
