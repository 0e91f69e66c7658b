"""Sound files read as the gguf package reads them; every kind of unsound one is named as such."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest
from forged_gguf import (
    ARRAY,
    BOOL,
    DATA,
    FLOAT32,
    IQ2_XXS,
    ONE,
    STRING,
    UINT8,
    UINT32,
    array,
    info,
    pair,
    text,
    u32,
    write,
)
from forged_gguf import gguf as forge

from pipelines.common.cache import Cache
from pipelines.common.checkpoints.gguf.reader import open_gguf
from pipelines.common.errors import ModelFileError


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    """A file that the gguf package wrote, with every type of metadata and several encodings."""
    generator = np.random.default_rng(0)
    path = tmp_path / "sound.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_uint8("numbers.u8", 255)
    writer.add_int8("numbers.i8", -128)
    writer.add_uint16("numbers.u16", 65535)
    writer.add_int16("numbers.i16", -32768)
    writer.add_uint32("numbers.u32", 2**32 - 1)
    writer.add_int32("numbers.i32", -(2**31))
    writer.add_uint64("numbers.u64", 2**64 - 1)
    writer.add_int64("numbers.i64", -(2**63))
    writer.add_float32("numbers.f32", 0.1)
    writer.add_float64("numbers.f64", 0.1)
    writer.add_bool("flag", True)
    writer.add_string("text", "naïve 😀\n")
    writer.add_array("words", ["a", "", "Ġé", "😀" * 100])
    writer.add_array("integers", [-1, 2, 3])
    writer.add_array("floats", [0.5, -1.5])
    writer.add_array("flags", [True, False])
    writer.add_tensor("vector", generator.standard_normal(5).astype(np.float32))
    writer.add_tensor("matrix", generator.standard_normal((3, 64)).astype(np.float16))
    writer.add_tensor("cube", generator.standard_normal((2, 3, 32)).astype(np.float32))
    for name in ("Q4_0", "Q4_1", "Q8_0", "BF16"):
        encoding = gguf.GGMLQuantizationType[name]
        values = generator.standard_normal((4, 64)).astype(np.float32)
        writer.add_tensor(name, gguf.quants.quantize(values, encoding), raw_dtype=encoding)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_metadata_agrees_with_the_gguf_package(sound: Path) -> None:
    expected = {
        name: field.contents()
        for name, field in gguf.GGUFReader(sound).fields.items()
        if not name.startswith("GGUF.")
    }
    read = dict(open_gguf(sound).metadata)
    assert read == expected
    assert {key: type(value) for key, value in read.items()} == {
        key: type(value) for key, value in expected.items()
    }


def test_tensors_agree_with_the_gguf_package(sound: Path) -> None:
    file = open_gguf(sound)
    reference = gguf.GGUFReader(sound).tensors
    assert list(file.tensors) == [tensor.name for tensor in reference]
    for tensor in reference:
        ours = file.tensors[tensor.name]
        assert ours.shape == tuple(reversed(tensor.shape.tolist()))
        assert ours.encoding.ggml_type == tensor.tensor_type
        assert (ours.offset, ours.nbytes) == (tensor.data_offset, tensor.n_bytes)
        raw = file.raw(tensor.name)
        assert raw.shape == (ours.rows, ours.encoding.row_bytes(ours.row_length))
        assert raw.tobytes() == tensor.data.tobytes()


def test_tensors_are_read_only_views_of_the_file(sound: Path) -> None:
    file = open_gguf(sound)
    raw = file.raw("matrix")
    assert np.shares_memory(raw, file.raw("matrix"))
    with pytest.raises(ValueError, match="read-only"):
        raw[0, 0] = 1


@pytest.mark.parametrize("version", [2, 3])
def test_reads_versions_2_and_3(tmp_path: Path, version: int) -> None:
    file = open_gguf(write(tmp_path, forge(version=version)))
    assert file.format == f"GGUF v{version}"


def test_reads_a_file_without_tensors_that_ends_with_its_metadata(tmp_path: Path) -> None:
    data = forge([pair("n", UINT8, b"\x07")], alignment=1)
    assert open_gguf(write(tmp_path, data)).metadata["n"] == 7


@pytest.mark.parametrize("kind", [UINT8, BOOL, STRING, FLOAT32])
def test_reads_empty_arrays_up_to_the_end_of_the_file(tmp_path: Path, kind: int) -> None:
    data = forge([pair("none", ARRAY, array(kind, 0, b""))], alignment=1)
    assert open_gguf(write(tmp_path, data)).metadata["none"] == []


@pytest.mark.parametrize("alignment", [1, 2, 4, 8, 4096])
def test_reads_other_alignments(tmp_path: Path, alignment: int) -> None:
    """Any power of two, as llama.cpp does; tensors are handed out as in any other file."""
    start = max(alignment, 8)
    data = forge(
        [pair("general.alignment", UINT32, u32(alignment))],
        [info("b", (4,), offset=start), info("a", (2,))],
        DATA[:8].ljust(start, b"\0") + DATA,
        alignment=alignment,
    )
    file = open_gguf(write(tmp_path, data))
    for name, content in (("a", DATA[:8]), ("b", DATA[:16])):
        raw = file.raw(name)
        assert raw.tobytes() == content
        assert raw.ctypes.data % 8 == 0
        assert not raw.flags.writeable


def test_lists_a_tensor_that_cannot_be_run_and_refuses_its_data(tmp_path: Path) -> None:
    path = write(tmp_path, forge(tensors=[info("w", (256, 2), IQ2_XXS)], data=bytes(132)))
    file = open_gguf(path)
    assert file.tensors["w"].encoding.name == "iq2_xxs"
    assert file.tensors["w"].nbytes == 132
    with pytest.raises(ModelFileError, match=r"'w' is .*: iq2_xxs cannot be run; use a .* F16, "):
        file.raw("w")


def test_text_in_another_encoding_is_shown_with_escapes(tmp_path: Path) -> None:
    """Wherever there can be text; but nothing is made of strings that cannot be read."""
    pairs = [
        pair("author", STRING, text(b"Andr\xe9")),
        pair(b"k\xff", UINT8, b"\7"),
        pair("words", ARRAY, array(STRING, 2, text("good") + text(b"\xff"))),
    ]
    file = open_gguf(write(tmp_path, forge(pairs, [info(b"t\xfe")], DATA)))
    assert dict(file.metadata) == {
        "author": r"Andr\xe9",
        r"k\xff": 7,
        "words": ["good", r"\xff"],
    }
    assert file.metadata.string("author") == r"Andr\xe9"
    assert [*file.tensors] == [r"t\xfe"]
    with pytest.raises(ModelFileError, match="'words' is damaged: string 1 is not UTF-8"):
        file.metadata.strings("words")


def test_booleans_are_true_where_they_are_not_zero(tmp_path: Path) -> None:
    """As llama.cpp reads them."""
    pairs = [pair("one", BOOL, b"\xff"), pair("more", ARRAY, array(BOOL, 3, b"\0\1\2"))]
    metadata = open_gguf(write(tmp_path, forge(pairs))).metadata
    assert dict(metadata) == {"one": True, "more": [False, True, True]}


def test_fingerprint_tells_files_apart(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")

    def fingerprint(data: bytes) -> str:
        return open_gguf(write(tmp_path, data)).fingerprint(cache.digests)

    original = fingerprint(forge([pair("k", UINT8, b"\1")], [ONE], DATA))
    assert fingerprint(forge([pair("k", UINT8, b"\1")], [ONE], DATA)) == original
    others = {
        fingerprint(forge([pair("k", UINT8, b"\1")], [ONE], DATA + b"\0")),
        fingerprint(forge([pair("k", UINT8, b"\2")], [ONE], DATA)),
        fingerprint(forge([pair("k", UINT8, b"\1")], [ONE], b"\xff" + DATA[1:])),
        fingerprint(forge([pair("k", UINT8, b"\1")], [ONE], DATA[:-1] + b"\xff")),
        fingerprint(forge([pair("k", UINT8, b"\1")], [info("b")], DATA)),
    }
    assert len(others - {original}) == 5


def test_a_fingerprint_is_of_the_file_that_was_opened(tmp_path: Path) -> None:
    """Another one may have taken its name since."""
    cache = Cache(tmp_path / "cache")
    file = open_gguf(write(tmp_path, forge([pair("k", UINT8, b"\1")], [ONE], DATA)))
    before = file.fingerprint(cache.digests)
    (tmp_path / "other").write_bytes(forge([pair("k", UINT8, b"\2")], [ONE], DATA))
    (tmp_path / "other").replace(file.path)
    assert file.fingerprint(cache.digests) == before
    assert open_gguf(file.path).fingerprint(cache.digests) != before


def test_the_digest_of_metadata_is_of_nothing_else(tmp_path: Path) -> None:
    def metadata_digest(data: bytes) -> str:
        return open_gguf(write(tmp_path, data)).metadata_digest

    pairs = [pair("k", UINT8, b"\1"), pair("text", STRING, text("some text"))]
    original = metadata_digest(forge(pairs, [ONE], DATA))
    assert metadata_digest(forge(pairs, [info("b")], DATA + b"\0")) == original
    assert metadata_digest(forge(pairs[:1], [ONE], DATA)) != original
    assert metadata_digest(forge([pair("k", UINT8, b"\2"), pairs[1]], [ONE], DATA)) != original
