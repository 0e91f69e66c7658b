"""Outputs that are not written to: what they hold is left as it is."""

from __future__ import annotations

import errno
import os
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from output_files import FORM, SETTINGS, fill, refusal, resume

from pipelines.common.batch.manifest import manifest_path, read_manifest, write_manifest
from pipelines.common.batch.output import OutputFile
from pipelines.common.errors import BatchError


def test_an_existing_output_is_not_written_over(path: Path) -> None:
    content = fill(path, 1)
    with pytest.raises(BatchError) as caught:
        OutputFile.create(path, SETTINGS)
    assert str(caught.value) == (
        f"{path} exists; finish it with `resume`, or choose another `output`"
    )
    assert path.read_bytes() == content


@pytest.mark.parametrize("kind", ["empty", "dangling link", "link", "manifest"])
def test_whatever_exists_is_not_written_over(path: Path, tmp_path: Path, kind: str) -> None:
    existing = path
    if kind == "empty":
        path.touch()
    elif kind == "dangling link":
        path.symlink_to(tmp_path / "nothing")
    elif kind == "link":
        (tmp_path / "mine").write_text("mine")
        path.symlink_to(tmp_path / "mine")
    else:
        write_manifest(path, {})
        existing = manifest_path(path)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(BatchError, match="exists; finish it with `resume`") as caught:
        OutputFile.create(path, SETTINGS)
    assert str(caught.value).startswith(f"{existing} exists")
    assert sorted(tmp_path.iterdir()) == before


def test_an_output_that_appears_at_the_last_moment(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = fill(path, 1)
    monkeypatch.setattr(os.path, "lexists", lambda _: False)
    with pytest.raises(BatchError, match="exists; finish it with `resume`"):
        OutputFile.create(path, {"model": "b.gguf"})
    assert path.read_bytes() == content
    assert read_manifest(path) == SETTINGS


def test_other_settings_are_refused(path: Path) -> None:
    content = fill(path, 1)
    path.write_bytes(content + b'{"line": 2, "te')
    with pytest.raises(BatchError, match=r"other settings: temperature 0\.5, now 0\.6;"):
        OutputFile.resume(path, {**SETTINGS, "temperature": 0.6}, FORM, range(9))
    assert path.read_bytes() == content + b'{"line": 2, "te'
    assert read_manifest(path) == SETTINGS


def test_other_settings_than_those_of_a_manifest_without_output(path: Path) -> None:
    write_manifest(path, {**SETTINGS, "temperature": 0.6})
    with pytest.raises(BatchError, match=r"other settings: temperature 0\.6, now 0\.5;"):
        resume(path)
    assert not path.exists()


def test_an_output_without_manifest_is_refused(path: Path) -> None:
    fill(path, 1)
    manifest_path(path).unlink()
    assert refusal(path) == (
        f"{path} has no answers.jsonl.manifest.json beside it, so what it was made with is not "
        "known; restore that, or choose another `output`"
    )
    assert not manifest_path(path).exists()


@pytest.mark.parametrize(
    "bad", [b"", b"{}", b"[1]", b"nonsense", b"\xff", b'{"line": 2', b"[" * 100_000]
)
@pytest.mark.parametrize("after", [b'{"line": 3}\n', b'{"line": 3}', b"\0"])
def test_a_bad_line_in_the_middle_is_no_tear(path: Path, bad: bytes, after: bytes) -> None:
    content = fill(path, 1)
    path.write_bytes(content + bad + b"\n" + after)
    assert refusal(path) == (
        f"{path}, line 2: not a record of this batch; repair or remove that line, or choose "
        "another `output`"
    )


def test_a_row_that_was_recorded_twice(path: Path) -> None:
    content = fill(path, 7, 1, 2)
    path.write_bytes(content + b'{"line": 1, "error": "?"}\n')
    assert refusal(path) == (
        f"{path}, line 4: a second record of line 1 of the input; repair or remove that line, or "
        "choose another `output`"
    )


@pytest.mark.parametrize("begin", [OutputFile.create, lambda path, _: resume(path)])
def test_no_folder_to_write_to(tmp_path: Path, begin: Any) -> None:
    path = tmp_path / "missing" / "answers.jsonl"
    with pytest.raises(BatchError) as caught:
        begin(path, SETTINGS)
    assert str(caught.value) == (
        f"cannot write {path}: No such file or directory; choose an `output` in a folder that "
        "exists and can be written"
    )


@pytest.mark.parametrize("begin", [OutputFile.create, lambda path, _: resume(path)])
def test_a_name_that_is_too_long(tmp_path: Path, begin: Any) -> None:
    with pytest.raises(BatchError, match="File name too long"):
        begin(tmp_path / ("x" * 300), SETTINGS)


@pytest.mark.skipif(os.geteuid() == 0, reason="modes do not bind the superuser")
def test_a_folder_that_cannot_be_written(path: Path) -> None:
    path.parent.chmod(0o500)
    with pytest.raises(BatchError, match="Permission denied; choose an `output` in a folder"):
        OutputFile.create(path, SETTINGS)


@pytest.mark.parametrize("begin", [OutputFile.create, lambda path, _: resume(path)])
@pytest.mark.parametrize("kind", ["folder", "pipe", "device"])
def test_what_is_no_file(tmp_path: Path, begin: Any, kind: str) -> None:
    path = Path(os.devnull) if kind == "device" else tmp_path / "answers.jsonl"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    with pytest.raises(BatchError) as caught:
        begin(path, SETTINGS)
    assert str(caught.value) == (
        f"{path} is no regular file, which `output` has to be; write to a pipe with `OutputStream`"
    )
    assert not manifest_path(path).exists()


def test_a_manifest_that_cannot_be_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(BatchError, match=r"manifest\.json: No space left.* with `resume`"):
            OutputFile.create(path, SETTINGS)
    with closing(resume(path)) as output:
        assert output.done == set()
