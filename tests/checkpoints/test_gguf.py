"""Sound files read as the gguf package reads them; every kind of unsound one is named as such."""

from __future__ import annotations

import os
import re
import struct
import tracemalloc
from pathlib import Path

import gguf
import numpy as np
import pytest
from forged_gguf import (
    ARRAY,
    BOOL,
    F32,
    FLOAT32,
    Q4_0,
    Q5_K,
    STRING,
    UINT8,
    UINT16,
    UINT32,
    UINT64,
    array,
    info,
    pair,
    text,
    u32,
)
from forged_gguf import gguf as forge
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.common.cache import Cache
from pipelines.common.checkpoints.gguf.reader import open_gguf
from pipelines.common.errors import ModelFileError

DATA = bytes(range(64))


def write(folder: Path, data: bytes) -> Path:
    path = folder / "model.gguf"
    path.write_bytes(data)
    return path


def failure(path: Path) -> str:
    """The message that opening `path` fails with."""
    with pytest.raises(ModelFileError) as raised:
        open_gguf(path)
    message = str(raised.value)
    assert str(path) in message
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


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
    path = write(tmp_path, forge(tensors=[info("w", (256, 2), Q5_K)], data=bytes(352)))
    file = open_gguf(path)
    assert file.tensors["w"].encoding.name == "q5_k"
    assert file.tensors["w"].nbytes == 352
    with pytest.raises(ModelFileError, match=r"'w' is .*: q5_k cannot be run; use a .* F32 or F16"):
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


ONE = info("a", (8,))
HUGE = 2**63

MALFORMED = {
    "text": (b"Once upon a time", "not a GGUF file: starts with b'Once'"),
    "one byte": (b"G", "not a GGUF file: starts with b'G'"),
    "magic only": (b"GGUF", "truncated or damaged: version"),
    "Git LFS": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 9\n",
        "not a GGUF file: it is Git LFS's pointer to one; fetch that with git lfs pull",
    ),
    "ggjt": (b"tjgg\3\0\0\0", "not a GGUF file: it is of ggml's formats before that; convert"),
    "version 1": (forge(version=1), "version 1, expected version 2 or 3; convert the model again"),
    "version 4": (forge(version=4), "GGUF version 4"),
    "big-endian": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian"),
    "counts cut": (forge()[:12], "number of tensors takes 8 bytes, 4 are left"),
    "too many tensors": (forge(tensor_count=HUGE), f"claims {HUGE} tensors"),
    "too many pairs": (forge(pair_count=2**64 - 1), "claims 0 tensors and 18446744073709551615"),
    "more pairs than sense": (
        forge(pair_count=1 << 17, data=bytes(13 << 17)),
        "131072 metadata keys, expected at most 65536",
    ),
    "metadata cut": (
        forge([pair("some.key", STRING, text("value"))], alignment=1)[:-1],
        "metadata key 'some.key' takes 5 bytes, 4 are left",
    ),
    "key longer than the file": (forge([struct.pack("<Q", HUGE) + b"abcdef"]), "a metadata key"),
    "key longer than allowed": (
        forge([pair("k" * 65536, UINT8, b"\0")]),
        "a metadata key takes 65536 bytes, expected at most 65535",
    ),
    "key twice": (forge([pair("k", UINT8, b"\0")] * 2), "metadata key 'k' twice"),
    "key with a line break": (
        forge([pair("two\nlines", UINT8, b"\0")] * 2),
        r"metadata key 'two\\nlines' twice",
    ),
    "unknown type": (forge([pair("k", 13, bytes(8))]), "'k' has the unknown type 13"),
    "string longer than the file": (
        forge([pair("k", STRING, struct.pack("<Q", HUGE))]),
        f"'k' takes {HUGE} bytes",
    ),
    "array of 2^63 numbers": (
        forge([pair("k", ARRAY, array(UINT64, HUGE, b""))]),
        f"'k' takes {HUGE * 8} bytes",
    ),
    "array of 2^63 strings": (
        forge([pair("k", ARRAY, array(STRING, HUGE, b""))]),
        f"'k' claims {HUGE} strings",
    ),
    "array string longer than the file": (
        forge([pair("k", ARRAY, array(STRING, 1, struct.pack("<Q", HUGE)))]),
        "'k' takes",
    ),
    "array strings run out": (
        forge([pair("k", ARRAY, array(STRING, 2, text(bytes(20))))], alignment=1),
        "'k' takes too many bytes",
    ),
    "nested arrays": (
        forge([pair("k", ARRAY, array(ARRAY, 1, b"") * 10_000)]),
        "'k' is an array of arrays",
    ),
    "array of unknown type": (
        forge([pair("k", ARRAY, array(99, 1, bytes(8)))]),
        "'k' has the unknown type 99",
    ),
    **{
        f"alignment {alignment}": (
            forge([pair("general.alignment", UINT32, u32(alignment))], [ONE], DATA),
            f"alignment of {alignment}, expected a power of two",
        )
        for alignment in (0, 24, 33, 2**32 - 1)
    },
    "alignment beyond the file": (
        forge([pair("general.alignment", UINT32, u32(2**31))], [ONE], DATA),
        f"truncated or damaged: tensor 'a' ends at byte {2**31 + 32}",
    ),
    "alignment not a number": (
        forge([pair("general.alignment", STRING, text("32"))], [ONE], DATA),
        "'general.alignment' is the string '32', expected an integer",
    ),
    "shard": (forge([pair("split.count", UINT16, b"\3\0")]), "one of 3 parts of a model"),
    "tensor infos cut": (forge(tensors=[ONE], alignment=1)[:-4], "offset of tensor 'a'"),
    "no dimensions": (forge(tensors=[info("a", ())], data=DATA), "0 dimensions, expected 1 to 4"),
    "five dimensions": (forge(tensors=[info("a", (1,) * 5)], data=DATA), "has 5 dimensions"),
    "2^32-1 dimensions": (
        forge(tensors=[text("a") + u32(2**32 - 1)], data=DATA),
        "has 4294967295 dimensions",
    ),
    "dimension of zero": (forge(tensors=[info("a", (8, 0))], data=DATA), "expected no zeros"),
    "product overflows to zero": (
        forge(tensors=[info("a", (2**32, 2**32))], data=DATA),
        "truncated or damaged: tensor 'a' ends at byte",
    ),
    "product overflows to eight": (
        forge(tensors=[info("a", (2**63 + 4, 2))], data=DATA),
        "truncated or damaged: tensor 'a' ends at byte",
    ),
    "unknown encoding": (
        forge(tensors=[info("a", encoding=99)], data=DATA),
        "'a' is in encoding number 99, which is newer than this program",
    ),
    "row not whole blocks": (
        forge(tensors=[info("a", (48, 2), Q4_0)], data=DATA),
        "'a' has rows of 48 elements, expected a multiple of q4_0's block of 32",
    ),
    "offset not aligned": (
        forge(tensors=[info("a", offset=8)], data=DATA),
        "'a' has offset 8, expected a multiple of the alignment, 32",
    ),
    "offset beyond the file": (
        forge(tensors=[info("a", offset=2**64 - 32)], data=DATA),
        "truncated or damaged: tensor 'a' ends at byte",
    ),
    "data cut": (
        forge(tensors=[info("a"), info("b", (16,), offset=32)], data=DATA[:63]),
        "truncated or damaged: tensor 'b' ends at byte",
    ),
    "tensors overlap": (
        forge(tensors=[info("b", offset=32), info("a", (16,))], data=bytes(128)),
        "tensors 'a' and 'b' overlap",
    ),
    "tensors in one place": (
        forge(tensors=[info("a"), info("b")], data=DATA),
        "tensors 'a' and 'b' overlap",
    ),
    "tensor twice": (
        forge(tensors=[info("a"), info("a", offset=32)], data=DATA),
        "tensor 'a' twice",
    ),
    "tensor name longer than the file": (
        forge(tensors=[struct.pack("<Q", HUGE) + bytes(30)], data=DATA),
        "a tensor name takes",
    ),
}


@pytest.mark.parametrize(("data", "message"), MALFORMED.values(), ids=MALFORMED)
def test_refuses_malformed_files(tmp_path: Path, data: bytes, message: str) -> None:
    assert re.search(message, failure(write(tmp_path, data)))


def test_refuses_what_is_no_file(tmp_path: Path) -> None:
    assert "Is a directory; expected a regular file" in failure(tmp_path)
    assert "no such model file" in failure(tmp_path / "missing.gguf")
    assert "is empty" in failure(write(tmp_path, b""))
    os.mkfifo(tmp_path / "pipe")
    assert "Is a named pipe; expected a regular file" in failure(tmp_path / "pipe")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_refuses_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = write(tmp_path, forge())
    path.chmod(0)
    assert "cannot be read: Permission denied" in failure(path)


def test_a_large_value_is_refused_before_it_is_read(tmp_path: Path) -> None:
    """A sparse file can claim, and hold, terabytes."""
    path = tmp_path / "sparse.gguf"
    path.write_bytes(forge([pair("k", STRING, struct.pack("<Q", 1 << 32))], alignment=1))
    os.truncate(path, 1 << 33)
    assert "'k' takes 4294967296 bytes, expected at most" in failure(path)
    path.write_bytes(forge([pair("k", ARRAY, array(STRING, 1 << 29, b""))], alignment=1))
    os.truncate(path, 1 << 33)
    assert "'k' claims 536870912 strings" in failure(path)


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


SMALL = forge(
    [
        pair("general.alignment", UINT32, u32(32)),
        pair("text", STRING, text("some text")),
        pair("words", ARRAY, array(STRING, 3, text("a") + text("é") + text("bcd"))),
        pair("numbers", ARRAY, array(UINT32, 2, u32(1) + u32(2))),
        pair("flags", ARRAY, array(BOOL, 2, b"\0\1")),
    ],
    [
        info("a", (8, 2), F32),
        info("b", (32, 2), Q4_0, offset=64),
        info("c", (256,), Q5_K, offset=128),
    ],
    bytes(128 + 176),
)


def test_every_truncation_is_noticed(tmp_path: Path) -> None:
    path = write(tmp_path, SMALL)
    open_gguf(path)
    for size in reversed(range(len(SMALL))):
        os.truncate(path, size)
        failure(path)


TELLING = st.sampled_from([0, 1, 3, 5, 13, 31, 2**31, 2**32 - 1, 2**62, 2**63, 2**64 - 1])
PATCHES = st.binary(min_size=1, max_size=8) | TELLING.map(lambda value: struct.pack("<Q", value))


@settings(max_examples=400, deadline=None)
@given(
    patches=st.lists(st.tuples(st.integers(0, len(SMALL) - 1), PATCHES), max_size=3),
    size=st.just(len(SMALL)) | st.integers(0, len(SMALL)),
)
def test_any_file_opens_or_is_refused(
    tmp_path_factory: pytest.TempPathFactory, patches: list[tuple[int, bytes]], size: int
) -> None:
    data = bytearray(SMALL)
    for position, patch in patches:
        data[position : position + len(patch)] = patch
    path = write(tmp_path_factory.getbasetemp(), bytes(data[:size]))
    tracemalloc.start()
    try:
        file = open_gguf(path)
        for key in file.metadata:
            file.metadata.describe(key)
        for name, tensor in file.tensors.items():
            if tensor.encoding.supported:
                assert file.raw(name).nbytes == tensor.nbytes
        assert file.metadata_digest
        dict(file.metadata)
    except ModelFileError as error:
        assert "\n" not in str(error)
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 1 << 20
