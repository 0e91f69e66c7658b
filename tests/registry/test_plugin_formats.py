"""By what the format of a model file is told."""

from __future__ import annotations

import os

import pytest

from pipelines.common.errors import ModelFileError
from pipelines.common.registry.registry import Registry


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("MODEL.GGUF", b""),
        ("model.gguf", b"something else"),
        ("model.gguf", b"GGUF"),
        ("model.bin", b"GGUF\3\0\0\0"),
        ("sha256-00e1317cbf74d901", b"GGUF\3\0\0\0"),  # a blob of Ollama's or of Hugging Face's
    ],
)
def test_a_format_is_told_by_the_first_bytes_or_else_by_the_ending(tmp_path, name, content):
    from pipelines.common.checkpoints.gguf.reader import open_gguf

    model = tmp_path / name
    model.write_bytes(content)
    link = tmp_path / "link"
    link.symlink_to(model)
    assert Registry.discover().opener(model).func is open_gguf
    if content.startswith(b"GGUF"):
        assert Registry.discover().opener(link).func is open_gguf


OTHER_FORMAT = """
from pipelines.common.registry.hookspecs import WeightFormatRecord, hookimpl

@hookimpl
def register_weight_formats():
    return [WeightFormatRecord("other", "Other.", (".gg",), "os:{function}", magic=({magic},))]
"""


def test_the_first_bytes_win_over_the_ending(make_plugin, tmp_path):
    other = make_plugin(OTHER_FORMAT, function="fspath", magic=b"OTHER")
    model = tmp_path / "model.gguf"
    model.write_bytes(b"OTHER and more")
    assert Registry.discover([other]).opener(model).func is os.fspath


def test_what_is_of_no_known_format(tmp_path):
    registry = Registry.discover()
    other = tmp_path / "model.bin"
    other.write_bytes(b"PK\3\4 and more")
    with pytest.raises(ModelFileError, match=r"first bytes, b'PK.*', nor its name are .* gguf"):
        registry.opener(other)
    with pytest.raises(ModelFileError, match="no such model file"):
        registry.opener(tmp_path / "missing.gguf")
    with pytest.raises(
        ModelFileError, match="is a folder without a model: expected one of the files"
    ):
        registry.opener(tmp_path)
    os.mkfifo(tmp_path / "pipe.gguf")
    with pytest.raises(ModelFileError, match="Is a named pipe; expected a regular file"):
        registry.opener(tmp_path / "pipe.gguf")
