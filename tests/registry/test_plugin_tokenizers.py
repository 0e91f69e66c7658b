"""Kinds of tokenizers that plugins bring."""

from __future__ import annotations

import pytest

from pipelines.common.cache import Cache
from pipelines.common.checkpoints.checkpoint import Metadata
from pipelines.common.checkpoints.tokenizer_source import TokenizerSource
from pipelines.common.errors import PluginError, TokenizerError
from pipelines.common.registry.registry import Registry

SOURCE = """
from pipelines.plugin import TokenizerError, TokenizerRecord, hookimpl

def load(source):
    {body}

@hookimpl
def register_tokenizers():
    return [TokenizerRecord("{name}", "A kind.", load=load)]
"""


def source(tmp_path, kind="mine"):
    metadata = Metadata(tmp_path / "m.gguf", {"tokenizer.ggml.model": kind})
    return TokenizerSource(metadata, Cache(tmp_path / "cache"), "digest", "m.gguf", pytest.fail)


def test_a_plugin_has_a_kind_of_its_own_or_in_the_place_of_a_built_in(make_plugin, tmp_path):
    body = "raise TokenizerError(f'{source.name}: asked')"
    for name in ("mine", "llama"):
        path = make_plugin(SOURCE.format(name=name, body=body), f"{name}_plugin.py")
        registry = Registry.discover([path])
        with pytest.raises(TokenizerError, match=r"^m\.gguf: asked$"):
            registry.tokenizer(source(tmp_path, name))
    assert "tokenizer 'llama' is that of plugin 'llama_plugin'" in registry.overrides[0]


def test_two_of_one_kind_disable_it(make_plugin, tmp_path):
    paths = [make_plugin(SOURCE.format(name="mine", body="pass"), f"{n}.py") for n in "ab"]
    registry = Registry.discover(paths)
    with pytest.raises(PluginError, match=r"tokenizer 'mine' is disabled: .* both bring it"):
        registry.tokenizer(source(tmp_path))
    with pytest.raises(
        TokenizerError, match="kind 'other', known are 'bert', 'gemma4', 'gpt2', 'llama'; "
    ):
        registry.tokenizer(source(tmp_path, "other"))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("1 / 0", "'mine' fails: ZeroDivisionError"),
        ("return 'text'", "'mine' fails: TypeError: it made 'text'; expected a Tokenizer"),
    ],
)
def test_one_that_fails_is_told_by_its_name(make_plugin, tmp_path, body, message):
    registry = Registry.discover([make_plugin(SOURCE.format(name="mine", body=body))])
    with pytest.raises(PluginError, match=message):
        registry.tokenizer(source(tmp_path))


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ('TokenizerRecord("No Name", "A kind.", load=load)', "'No Name' is no name"),
        ('TokenizerRecord("mine", "A kind.", load=7)', "'mine' is given 7; expected a function"),
        ('"mine"', "returned 'mine'; expected TokenizerRecord records"),
    ],
)
def test_a_record_that_is_none_is_told(make_plugin, record, message):
    text = SOURCE.format(name="mine", body="pass")
    text = text.replace('TokenizerRecord("mine", "A kind.", load=load)', record)
    (problem,) = Registry.discover([make_plugin(text)]).problems
    assert message in problem
