"""Tokenizers of folders in GGUF's keys: read back, they cut texts as before."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from sentence_models import CONTROL, USER, nasty_texts, pieces_of, trained
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers
from vocabularies import HARD_TEXTS, TRAINING_TEXT, load_gguf, write_gguf

from pipelines.common.checkpoints.gguf.tokenizer_keys import tokenizer_keys
from pipelines.common.errors import TokenizerError
from pipelines.common.text.byte_pairs import assembled
from pipelines.common.text.folder import tokenizer_of_folder
from pipelines.common.text.pre_tokenizers import PRE_TOKENIZERS, PreTokenizer
from pipelines.common.text.tokenizer import Tokenizer

SPECIAL = [("<s>", True), ("<|im_end|>", True), ("<tool>", False)]


def trained_pairs(way: PreTokenizer) -> tokenizers.Tokenizer:
    """Byte-level BPE that was trained with words cut in a way that has a name."""
    backend = assembled(models.BPE(), (), way)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=500,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    backend.train_from_iterator(TRAINING_TEXT, trainer)
    backend.add_special_tokens([token for token, control in SPECIAL if control])
    backend.add_tokens([token for token, control in SPECIAL if not control])
    return backend


def in_folder(folder: Path, backend: tokenizers.Tokenizer, **settings: Any) -> Tokenizer:
    backend.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return tokenizer_of_folder(folder, pytest.fail)


def read_back(folder: Path, tokenizer: Tokenizer, size: int = 0) -> Tokenizer:
    notices: list[str] = []
    keys = tokenizer_keys(tokenizer, size, notices.append)
    assert notices == []
    metadata = {key.removeprefix("tokenizer.ggml."): value for key, value in keys.items()}
    return load_gguf(write_gguf(folder / "keys.gguf", metadata))


@pytest.mark.parametrize(
    "name", sorted({way: name for name, way in PRE_TOKENIZERS.items()}.values())
)
def test_byte_pairs_are_read_back_with_words_cut_in_the_same_way(tmp_path, name):
    backend = trained_pairs(PRE_TOKENIZERS[name])
    before = in_folder(tmp_path, backend, bos_token="<s>", eos_token="<|im_end|>")
    after = read_back(tmp_path, before, 600)
    for text in [*HARD_TEXTS, *TRAINING_TEXT, "a<tool> b<s>c <|im_end|>"]:
        assert after.encode(text) == before.encode(text), text
        assert after.encode(text, special=False) == before.encode(text, special=False), text
    ids = range(before.vocab_size)
    assert [*map(after.token_bytes, ids)] == [*map(before.token_bytes, ids)]
    for attribute in ("bos_id", "adds_bos", "end_ids"):
        assert getattr(after, attribute) == getattr(before, attribute)
    assert after.vocab_size == 600


@pytest.mark.parametrize("collapses", [False, True])
def test_sentence_pieces_are_read_back(tmp_path, collapses):
    content = trained(
        user_defined_symbols=USER,
        control_symbols=CONTROL,
        remove_extra_whitespaces=collapses,
    )
    (tmp_path / "tokenizer.model").write_bytes(content)
    before = tokenizer_of_folder(tmp_path, pytest.fail)
    after = read_back(tmp_path, before, before.vocab_size + 20)
    for text in nasty_texts(pieces_of(content), 300):
        assert after.encode(text) == before.encode(text), text
    for attribute in ("bos_id", "adds_bos", "end_ids"):
        assert getattr(after, attribute) == getattr(before, attribute)


def test_all_end_tokens_have_a_key_or_a_name(tmp_path):
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [260, 261, 500, 262]}')
    before = in_folder(tmp_path, trained_pairs(PRE_TOKENIZERS["qwen2"]), eos_token="<s>")
    notices: list[str] = []
    keys = tokenizer_keys(before, 0, notices.append)
    assert keys["tokenizer.ggml.eos_token_id"] == 500
    assert [keys[f"tokenizer.ggml.{key}_token_id"] for key in ("eot", "eom")] == [260, 261]
    (told,) = notices
    assert "left out: 262" in told


def test_words_that_are_tokens_have_a_name_where_merges_make_them(tmp_path):
    """As of gpt-oss, whose file takes words whole, while the name for its cut does not."""
    backend = trained_pairs(PRE_TOKENIZERS["gpt-4o"])
    backend.model.ignore_merges = True
    before = in_folder(tmp_path, backend)
    keys = tokenizer_keys(before, 0, pytest.fail)
    assert keys["tokenizer.ggml.pre"] == "gpt-4o"
    after = read_back(tmp_path, before)
    for text in [*HARD_TEXTS, *TRAINING_TEXT]:
        assert after.encode(text) == before.encode(text), text


def test_words_that_no_merge_makes_have_none(tmp_path):
    document = json.loads(trained_pairs(PRE_TOKENIZERS["gpt-4o"]).to_str())
    document["model"]["ignore_merges"] = True
    del document["model"]["merges"][-1]
    backend = tokenizers.Tokenizer.from_str(json.dumps(document))
    with pytest.raises(TokenizerError, match="cuts texts into words in a way that has no name"):
        tokenizer_keys(in_folder(tmp_path, backend), 0, pytest.fail)


def odd_words(backend: tokenizers.Tokenizer) -> None:
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\p{L}\p{L}"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def lowercase(backend: tokenizers.Tokenizer) -> None:
    backend.normalizer = normalizers.Lowercase()


def space_before(backend: tokenizers.Tokenizer) -> None:
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)


def byte_fallback(backend: tokenizers.Tokenizer) -> None:
    backend.decoder = decoders.ByteFallback()


@pytest.mark.parametrize("changed", [odd_words, lowercase, space_before, byte_fallback])
def test_what_has_no_name_is_refused(tmp_path, changed):
    backend = trained_pairs(PRE_TOKENIZERS["gpt-2"])
    changed(backend)
    with pytest.raises(TokenizerError, match=r"tokenizer.json: the tokenizer .* expected byte-lev"):
        tokenizer_keys(in_folder(tmp_path, backend), 0, pytest.fail)
