"""Numbers that a family adds to those of every decoder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import pytest

from pipelines.common.checkpoints.gguf.reader import open_gguf
from pipelines.common.decoder.numbers import key, keys, own_numbers
from pipelines.common.errors import ModelFileError


@dataclass(frozen=True)
class Numbers:
    window: int = key("attention.window", least=1, most=4096)
    scale: float = key("scale", 1.5, least=0)
    parallel: bool = key("parallel", default=False)
    kind: str = key("kind", "plain")
    widths: tuple[int, ...] = key("widths", ())
    factors: tuple[float, ...] = key("factors", (1.0,), least=0.5)


def read(path: Path, **values: Any) -> Numbers:
    writer = gguf.GGUFWriter(path, "family")
    for name, value in values.items():
        name = f"family.{name.replace('__', '.')}"
        match value:
            case bool():
                writer.add_bool(name, value)
            case int():
                writer.add_uint32(name, value)
            case float():
                writer.add_float32(name, value)
            case str():
                writer.add_string(name, value)
            case _:
                writer.add_array(name, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return Numbers(**own_numbers(open_gguf(path), "family", Numbers))


def test_what_a_file_says_and_what_it_leaves_out(tmp_path: Path) -> None:
    assert read(tmp_path / "m.gguf", attention__window=7) == Numbers(window=7)
    assert read(
        tmp_path / "m.gguf",
        attention__window=4096,
        scale=2.0,
        parallel=True,
        kind="other",
        widths=[1, 2, 3],
        factors=[0.5, 2.0],
    ) == Numbers(
        window=4096,
        scale=2.0,
        parallel=True,
        kind="other",
        widths=(1, 2, 3),
        factors=(0.5, 2.0),
    )


def test_a_number_may_be_written_as_another_type(tmp_path: Path) -> None:
    numbers = read(tmp_path / "m.gguf", attention__window=8.0, scale=3)
    assert numbers == Numbers(window=8, scale=3.0)
    assert type(numbers.window) is int
    assert type(numbers.scale) is float


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "'family.attention.window' is missing, expected an integer"),
        ({"attention__window": 0}, "'family.attention.window' is 0; expected a number from 1 to"),
        ({"attention__window": 4097}, "is 4097; expected a number from 1 to 4096"),
        ({"attention__window": "7"}, "is the string '7', expected an integer"),
        ({"attention__window": 7.5}, "expected an integer"),
        ({"attention__window": 7, "scale": -1.0}, "'family.scale' is -1.0; expected a number"),
        ({"attention__window": 7, "scale": float("nan")}, "expected a finite number"),
        ({"attention__window": 7, "parallel": 2}, "expected a boolean"),
        ({"attention__window": 7, "widths": [1.5]}, "expected an array of integers"),
        ({"attention__window": 7, "factors": [1.0, 0.25]}, "is 0.25; expected a number from 0.5"),
    ],
)
def test_what_makes_no_sense_is_refused(
    tmp_path: Path, values: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelFileError) as error:
        read(tmp_path / "m.gguf", **values)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_type_that_no_key_has_is_the_authors_mistake(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Wrong:
        table: dict[str, int] = key("attention.window")  # noqa: RUF009

    read(tmp_path / "m.gguf", attention__window=7)
    with pytest.raises(TypeError, match=r"cannot be dict\[str, int\]; expected int, float"):
        own_numbers(open_gguf(tmp_path / "m.gguf"), "family", Wrong)


def test_which_keys_are_read() -> None:
    assert [source.name for source in keys(Numbers).values()] == [
        "attention.window",
        "scale",
        "parallel",
        "kind",
        "widths",
        "factors",
    ]
