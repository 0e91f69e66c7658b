"""A weight table that a file does not fit names everything that is wrong, in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
from forged_gguf import Q5_K, gguf, info

from pipelines.common.errors import ModelFileError
from pipelines.common.weights.gguf import GGUFFile, open_gguf
from pipelines.common.weights.table import Weight, check_table

TABLE = [
    Weight("embedding.weight", "embd", (4, 8), "embedding"),
    Weight("norm.weight", "norm", (8,), "vector"),
    Weight("head.weight", "embd", (4, 8), "head"),
]


def opened(folder: Path, *infos: bytes) -> GGUFFile:
    path = folder / "model.gguf"
    path.write_bytes(gguf(tensors=infos, data=bytes(1 << 12)))
    return open_gguf(path)


def failure(file: GGUFFile, table: list[Weight], **options: list[str]) -> str:
    with pytest.raises(ModelFileError) as raised:
        check_table(file, table, **options)
    return str(raised.value).removeprefix(f"{file.path}: ")


def test_accepts_exactly_its_tensors(tmp_path: Path) -> None:
    file = opened(tmp_path, info("embd", (8, 4)), info("norm", (8,), offset=128))
    check_table(file, TABLE)


def test_accepts_ignored_tensors_only(tmp_path: Path) -> None:
    file = opened(
        tmp_path,
        info("embd", (8, 4)),
        info("norm", (8,), offset=128),
        info("rope", (8,), offset=160),
    )
    check_table(file, TABLE, ignored=["rope", "absent"])
    assert failure(file, TABLE) == "does not fit the model: unexpected tensors: 'rope'"


def test_names_all_that_is_wrong(tmp_path: Path) -> None:
    file = opened(
        tmp_path,
        info("embd", (4, 8)),
        info("odd\nname", (8,), offset=128),
        info("coded", (256,), Q5_K, offset=160),
    )
    table = [*TABLE, Weight("coded.weight", "coded", (256,), "linear")]
    assert failure(file, table) == (
        "does not fit the model: missing tensors: norm; "
        "tensors of the wrong shape: embd is [8, 4], expected [4, 8]; "
        "tensors in unsupported encodings: coded is q5_k; "
        r"unexpected tensors: 'odd\nname'"
    )


def test_long_lists_are_cut(tmp_path: Path) -> None:
    table = [Weight(f"p{i}", f"t{i}", (8,), "vector") for i in range(8)]
    assert failure(opened(tmp_path), table) == (
        "does not fit the model: missing tensors: t0, t1, t2, t3, t4 and 3 more"
    )


def test_both_uses_of_a_tied_tensor_are_checked(tmp_path: Path) -> None:
    table = [
        Weight("embedding.weight", "embd", (4, 8), "embedding"),
        Weight("head.weight", "embd", (5, 8), "head"),
    ]
    message = failure(opened(tmp_path, info("embd", (8, 4))), table)
    assert message.endswith("embd is [4, 8], expected [5, 8]")
