from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from pipelines.common.batch.manifest import (
    check_settings,
    manifest_path,
    read_manifest,
    write_manifest,
)
from pipelines.common.errors import BatchError

SETTINGS = {"pipeline": "llama3", "temperature": 0.7, "stops": ("a", "ü\n"), "seed": None}


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "answers.jsonl"


def difference(output: Path, before: dict[str, object], now: dict[str, object]) -> str:
    """The part of the error that tells what differs."""
    with pytest.raises(BatchError) as caught:
        check_settings(output, before, now)
    message = str(caught.value)
    assert "\n" not in message
    start = f"{output} was begun with other settings: "
    end = "; repeat them, or choose another `output`"
    assert message.startswith(start) and message.endswith(end)
    return message.removeprefix(start).removesuffix(end)


def test_what_was_written_is_read_and_is_the_same_settings(output: Path) -> None:
    write_manifest(output, SETTINGS)
    settings = read_manifest(output)
    assert settings == {**SETTINGS, "stops": ["a", "ü\n"]}
    check_settings(output, settings, SETTINGS)


def test_the_file_is_for_people_too(output: Path) -> None:
    write_manifest(output, {"pipeline": "llama3"})
    text = (output.parent / "answers.jsonl.manifest.json").read_text()
    assert text == '{\n  "format": 1,\n  "settings": {\n    "pipeline": "llama3"\n  }\n}\n'


def test_a_file_name_that_is_not_utf8_can_be_a_setting(output: Path) -> None:
    settings = {"model": os.fsdecode(b"\xff.gguf")}
    write_manifest(output, settings)
    assert read_manifest(output) == settings


def test_there_is_none(output: Path) -> None:
    assert read_manifest(output) is None


def test_a_new_manifest_takes_the_place_of_the_old_one_and_of_what_a_crash_left(
    output: Path,
) -> None:
    write_manifest(output, {"seed": 1})
    (output.parent / "answers.jsonl.manifest.json.partial").write_text("half of a manife" * 100)
    write_manifest(output, {"seed": 2})
    assert read_manifest(output) == {"seed": 2}
    assert list(output.parent.iterdir()) == [manifest_path(output)]


def test_a_link_in_the_place_of_what_a_crash_left_is_not_followed(
    output: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.write_text("untouched")
    (tmp_path / "answers.jsonl.manifest.json.partial").symlink_to(other)
    write_manifest(output, {"seed": 2})
    assert other.read_text() == "untouched"
    assert read_manifest(output) == {"seed": 2}
    assert not manifest_path(output).is_symlink()


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_full_disk_leaves_what_was_there(
    output: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    write_manifest(output, {"seed": 1})

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, step, fail)
        with pytest.raises(BatchError) as caught:
            write_manifest(output, {"seed": 2})
    assert str(caught.value) == (
        f"cannot write {output}.manifest.json: No space left on device; make room for it and go on "
        "with `resume`, or choose another `output`"
    )
    assert read_manifest(output) == {"seed": 1}
    assert list(output.parent.iterdir()) == [manifest_path(output)]


def test_no_folder_to_write_to(tmp_path: Path) -> None:
    with pytest.raises(BatchError, match=r"missing/a\.manifest\.json: No such file or directory;"):
        write_manifest(tmp_path / "missing" / "a", SETTINGS)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff",
        b"\0" * 4096,
        b"[" * 100_000,
        b"[]",
        b'{"settings": {}}',
        b'{"format": 1}',
        b'{"format": 1, "settings": []}',
        b'{"format": 2, "settings": {}}',
        b'{"format": "1", "settings": {}}',
    ],
)
def test_a_manifest_that_is_none(output: Path, content: bytes) -> None:
    manifest_path(output).write_bytes(content)
    with pytest.raises(BatchError) as caught:
        read_manifest(output)
    assert str(caught.value) == (
        f"{output}.manifest.json is not the manifest of a batch in format 1; restore it, or choose "
        "another `output`"
    )


def test_a_manifest_that_cannot_be_read(output: Path) -> None:
    manifest_path(output).mkdir()
    with pytest.raises(BatchError, match=r"cannot read .*\.manifest\.json: Is a directory; make"):
        read_manifest(output)


def test_a_manifest_that_is_no_file(output: Path) -> None:
    for special, kind in (("/dev/zero", "Is a device"), ("pipe", "Is a named pipe")):
        if special == "pipe":
            os.mkfifo(output.with_name("pipe"))
        manifest_path(output).unlink(missing_ok=True)
        manifest_path(output).symlink_to(special)
        with pytest.raises(BatchError, match=rf"cannot read .*\.manifest\.json: {kind}; make"):
            read_manifest(output)


def test_every_difference_is_shown(output: Path) -> None:
    before = {"model": "a.gguf", "seed": 1, "temperature": 0.7, "stops": ["x"], "top_k": 5}
    now = {"model": "b.gguf", "seed": 1, "temperature": 0.8, "stops": [], "top_p": 0.5}
    assert difference(output, before, now) == (
        'model "a.gguf", now "b.gguf"; stops ["x"], now []; temperature 0.7, now 0.8; '
        "top_k 5, now not set; top_p not set, now 0.5"
    )


def test_no_setting_and_a_setting_of_nothing_differ(output: Path) -> None:
    assert difference(output, {}, {"model": None}) == "model not set, now null"


def test_the_order_of_keys_does_not_count(output: Path) -> None:
    now = json.loads('{"b": {"y": 1, "x": 2}, "a": 3}')
    check_settings(output, {"a": 3, "b": {"x": 2, "y": 1}}, now)


def test_long_values_are_cut_to_where_they_differ(output: Path) -> None:
    same = "/models/" + "x" * 1000
    shown = difference(output, {"model": f"{same}/a.gguf"}, {"model": f"{same}/b{'c' * 1000}"})
    x = "x" * 19
    assert shown == f'model …{x}/a.gguf", now …{x}/b{"c" * 39}…'


def test_a_value_that_the_other_begins_with(output: Path) -> None:
    shown = difference(output, {"stops": "x" * 100}, {"stops": "x" * 100 + "y"})
    assert shown == f'stops …{"x" * 20}", now …{"x" * 20}y"'


def test_differences_stay_on_one_line(output: Path) -> None:
    assert difference(output, {"s": "a\nb"}, {"s": "a\r"}) == r's "a\nb", now "a\r"'
