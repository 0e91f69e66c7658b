"""A weight table that a file does not fit names everything that is wrong, in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
from forged_gguf import IQ2_XXS, gguf, info

from pipelines.common.cache import Cache
from pipelines.common.checkpoints.gguf.reader import GGUFFile, open_gguf
from pipelines.common.checkpoints.table import Weight, check_table
from pipelines.common.errors import ModelFileError
from pipelines.common.program.weights import WeightSource

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
        info("coded", (256,), IQ2_XXS, offset=160),
    )
    table = [*TABLE, Weight("coded.weight", "coded", (256,), "linear")]
    assert failure(file, table) == (
        "does not fit the model: missing tensors: norm; "
        "tensors of the wrong shape: embd is [8, 4], expected [4, 8]; "
        r"unexpected tensors: 'odd\nname'; "
        "iq2_xxs cannot be run; use a file of the model in F32, F16, BF16, Q8_0, Q5_0, Q5_1, Q4_0,"
        " Q4_1, Q6_K, Q5_K, Q4_K, Q3_K, Q2_K, IQ4_NL, IQ4_XS or MXFP4 (here: coded)"
    )


@pytest.mark.parametrize(
    ("stored", "wanted", "same"),
    [
        ((8, 1), (8,), True),
        ((8, 1, 1, 1), (8,), True),
        ((8, 4, 1), (4, 8), True),
        ((1, 8), (8,), False),
        ((1, 8), (8, 1), True),
    ],
)
def test_outer_dimensions_of_one_make_no_difference(
    tmp_path: Path, stored: tuple[int, ...], wanted: tuple[int, ...], same: bool
) -> None:
    """As in ggml, where every tensor has four dimensions; those of a file are innermost first."""
    file = opened(tmp_path, info("norm", stored))
    table = [Weight("norm.weight", "norm", wanted, "vector")]
    if same:
        check_table(file, table)
        values = WeightSource(file, table, "auto", Cache(tmp_path), warn=pytest.fail)
        assert values.float32("norm.weight").shape == wanted
    else:
        assert "wrong shape" in failure(file, table)


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


def parts(*rows: tuple[int, int], width: int = 8) -> list[Weight]:
    return [
        Weight(f"part{number}", "fused", (last - first, width), "linear", (first, last))
        for number, (first, last) in enumerate(rows)
    ]


def test_parts_of_a_tensor_are_all_of_it(tmp_path: Path) -> None:
    file = opened(tmp_path, info("fused", (8, 4)))
    check_table(file, parts((0, 1), (1, 4)))
    message = failure(file, parts((0, 1), (1, 3)))
    assert message == (
        "does not fit the model: tensors of the wrong shape: fused is [4, 8], expected [3, 8]"
    )


@pytest.mark.parametrize(
    "table",
    [
        parts((0, 2), (1, 4)),
        parts((0, 1), (2, 4)),
        parts((1, 4)),
        [*parts((0, 1)), *parts((1, 4), width=4)],
        [Weight("part", "fused", (3, 8), "linear", (0, 4))],
    ],
    ids=["overlap", "gap", "late", "widths", "another number of rows"],
)
def test_parts_that_are_not_row_after_row_are_a_mistake_of_the_network(
    tmp_path: Path, table: list[Weight]
) -> None:
    with pytest.raises(ValueError, match="takes fused apart, but not row after row"):
        check_table(opened(tmp_path, info("fused", (8, 4))), table)
