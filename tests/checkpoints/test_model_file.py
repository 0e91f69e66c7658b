"""Typed access to metadata: the value, the default, or one line that says what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.common.checkpoints.checkpoint import Metadata, MetadataArray
from pipelines.common.errors import ModelFileError, quoted

VALUES: dict[str, Any] = {
    "integer": 32,
    "number": 0.5,
    "boolean": True,
    "string": "llama",
    "strings": MetadataArray(str, 2, lambda _: ["a", "b"]),
    "integers": MetadataArray(int, 3, lambda _: [1, 2, 3]),
    "numbers": MetadataArray(float, 1, lambda _: [0.5]),
    "booleans": MetadataArray(bool, 1, lambda _: [True]),
    "nan": float("nan"),
    "infinity": float("inf"),
}
ACCEPTED = {
    "integer": {"integer"},
    "number": {"integer", "number"},
    "boolean": {"boolean"},
    "string": {"string"},
    "strings": {"strings"},
    "integers": {"integers"},
    "numbers": {"integers", "numbers"},
}


@pytest.fixture
def metadata() -> Metadata:
    return Metadata(Path("model.gguf"), VALUES)


def getter(metadata: Metadata, name: str) -> Callable[..., Any]:
    return getattr(metadata, name)


@pytest.mark.parametrize("kind", ACCEPTED)
@pytest.mark.parametrize("key", VALUES)
def test_getters_take_their_own_type_only(metadata: Metadata, kind: str, key: str) -> None:
    if key in ACCEPTED[kind]:
        assert getter(metadata, kind)(key) == metadata[key]
        return
    with pytest.raises(ModelFileError) as raised:
        getter(metadata, kind)(key)
    assert str(raised.value).startswith(
        f"model.gguf: metadata key '{key}' is the {metadata.describe(key)}, expected a"
    )
    with pytest.raises(ModelFileError):
        getter(metadata, kind)(key, None)


@pytest.mark.parametrize(
    ("kind", "stored", "meant"),
    [
        ("integer", 2048.0, 2048),
        ("integer", -1.0, -1),
        ("number", 500000, 500000.0),
        ("boolean", 0, False),
        ("boolean", 1, True),
    ],
)
def test_a_number_may_be_stored_in_another_type(kind: str, stored: Any, meant: Any) -> None:
    read = getter(Metadata(Path("model.gguf"), {"k": stored}), kind)("k")
    assert (read, type(read)) == (meant, type(meant))


@pytest.mark.parametrize(
    ("kind", "stored"),
    [
        ("integer", 0.5),
        ("integer", float("inf")),
        ("integer", True),
        ("integer", "32"),
        ("number", True),
        ("boolean", 2),
        ("boolean", 1.0),
        ("boolean", "true"),
    ],
)
def test_nothing_is_made_of_what_means_something_else(kind: str, stored: Any) -> None:
    with pytest.raises(ModelFileError, match="metadata key 'k' is the "):
        getter(Metadata(Path("model.gguf"), {"k": stored}), kind)("k")


@pytest.mark.parametrize("kind", ACCEPTED)
def test_missing_keys_give_the_default_or_an_error(metadata: Metadata, kind: str) -> None:
    assert getter(metadata, kind)("absent", None) is None
    assert getter(metadata, kind)("absent", default=7) == 7
    with pytest.raises(
        ModelFileError, match=r"^model.gguf: metadata key 'absent' is missing, expected an? "
    ):
        getter(metadata, kind)("absent")


def test_messages_are_exact(metadata: Metadata) -> None:
    with pytest.raises(ModelFileError) as raised:
        metadata.integer("strings")
    assert str(raised.value) == (
        "model.gguf: metadata key 'strings' is the array of 2 strings, expected an integer"
    )


def test_descriptions(metadata: Metadata) -> None:
    assert {key: metadata.describe(key) for key in metadata} == {
        "integer": "integer 32",
        "number": "number 0.5",
        "boolean": "boolean true",
        "string": "string 'llama'",
        "strings": "array of 2 strings",
        "integers": "array of 3 integers",
        "numbers": "array of 1 number",
        "booleans": "array of 1 boolean",
        "nan": "number nan",
        "infinity": "number inf",
    }


def test_describing_does_not_decode() -> None:
    def decode(_errors: str) -> list[str]:
        raise AssertionError

    assert Metadata(Path("m"), {"k": MetadataArray(str, 9, decode)}).describe("k")


def test_is_a_mapping(metadata: Metadata) -> None:
    assert len(metadata) == len(VALUES)
    assert "integer" in metadata
    assert metadata.get("absent") is None
    with pytest.raises(KeyError):
        metadata["absent"]


def test_quoted_text_is_one_short_line() -> None:
    assert quoted("a\nb\x1b[0m") == r"'a\nb\x1b[0m'"
    assert len(quoted("x" * 10_000)) < 100
