"""GGUF files that are cut, patched or made up: refused in one line, and soon."""

from __future__ import annotations

import os
import re
import struct
import tracemalloc
from pathlib import Path

import pytest
from forged_gguf import (
    ARRAY,
    BOOL,
    DATA,
    F32,
    IQ2_XXS,
    ONE,
    Q4_0,
    STRING,
    UINT8,
    UINT16,
    UINT32,
    UINT64,
    array,
    failure,
    info,
    pair,
    text,
    u32,
    write,
)
from forged_gguf import gguf as forge
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.common.checkpoints.gguf.reader import open_gguf
from pipelines.common.errors import ModelFileError

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
    "part": (
        forge([pair("split.count", UINT16, b"\3\0"), pair("split.no", UINT16, b"\1\0")]),
        "is part 2 of 3 of a model, and the others are found by its name; expected NAME-00002-of",
    ),
    "part beyond the last": (
        forge([pair("split.count", UINT16, b"\3\0"), pair("split.no", UINT16, b"\3\0")]),
        "is part 3 of 3 of a model, counted from 0",
    ),
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
        info("c", (256,), IQ2_XXS, offset=128),
    ],
    bytes(128 + 66),
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
