from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, GPT2Tokenizer, PreTrainedTokenizerFast, Qwen2Tokenizer
from vocabularies import HARD_TEXTS, Vocabulary, load_gguf, train, write_gguf

from pipelines.common.cache import Cache
from pipelines.common.errors import ModelFileError, PipelineError, TokenizerError
from pipelines.common.text import gguf_tokenizer
from pipelines.common.text.tokenizer import Tokenizer
from pipelines.common.weights.gguf import open_gguf
from pipelines.common.weights.model_file import Metadata


@pytest.fixture(scope="module")
def reference(llama3: Vocabulary) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=llama3.backend,
        bos_token="<|begin_of_text|>",
        eos_token="<|end_of_text|>",
        clean_up_tokenization_spaces=False,
    )


@pytest.mark.parametrize("text", HARD_TEXTS)
def test_ids_are_those_of_transformers(
    text: str, llama3_tokenizer: Tokenizer, reference: PreTrainedTokenizerFast
) -> None:
    assert llama3_tokenizer.encode(text) == reference.encode(text)
    assert llama3_tokenizer.encode(text, bos=False) == reference.encode(
        text, add_special_tokens=False
    )
    plain = reference.encode(text, add_special_tokens=False, split_special_tokens=True)
    assert llama3_tokenizer.encode(text, bos=False, special=False) == plain


def test_transformers_reads_the_same_ids_from_the_same_file(
    llama3: Vocabulary, tmp_path: Path
) -> None:
    model_keys = {
        "llama.block_count": 1,
        "llama.context_length": 64,
        "llama.embedding_length": 32,
        "llama.feed_forward_length": 64,
        "llama.attention.head_count": 2,
        "llama.vocab_size": len(llama3.tokens),
    }
    path = write_gguf(tmp_path / "model.gguf", llama3.metadata(), **model_keys)
    outside = AutoTokenizer.from_pretrained(str(tmp_path), gguf_file=path.name)
    tokenizer = load_gguf(path)
    for text in HARD_TEXTS:
        ids = outside.encode(text, add_special_tokens=False)
        assert tokenizer.encode(text, bos=False) == ids, text
    assert tokenizer.bos_id == outside.bos_token_id
    assert outside.eos_token_id in tokenizer.end_ids


def test_qwen2_is_that_of_transformers(tmp_path: Path) -> None:
    vocabulary = train("qwen2")
    ids = {token: id for id, token in enumerate(vocabulary.tokens)}
    outside = Qwen2Tokenizer(
        vocab=ids,
        merges=[tuple(merge.split(" ")) for merge in vocabulary.merges],
        unk_token=None,
        eos_token="<|end_of_text|>",
        pad_token=None,
    )
    metadata = vocabulary.metadata() | {"add_bos_token": False}
    tokenizer = load_gguf(write_gguf(tmp_path / "qwen2.gguf", metadata))
    assert not tokenizer.adds_bos
    unmarked = [text for text in HARD_TEXTS if "<" not in text]
    for text in unmarked:
        assert tokenizer.encode(text) == outside.encode(text, add_special_tokens=False), text
    # Composed and decomposed accents are the same text to this model.
    assert tokenizer.encode("cafe\u0301") == tokenizer.encode("caf\u00e9")


def test_gpt2_is_that_of_transformers(tmp_path: Path) -> None:
    vocabulary = train("gpt-2")
    ids = {token: id for id, token in enumerate(vocabulary.tokens)}
    merges = [tuple(merge.split(" ")) for merge in vocabulary.merges]
    outside = GPT2Tokenizer(vocab=ids, merges=merges, unk_token=None)
    tokenizer = load_gguf(write_gguf(tmp_path / "gpt2.gguf", vocabulary.metadata()))
    for text in HARD_TEXTS:
        if "<" not in text:
            ids_outside = outside.encode(text, add_special_tokens=False)
            assert tokenizer.encode(text, bos=False) == ids_outside, text


def test_smollm_cuts_every_digit(tmp_path: Path) -> None:
    vocabulary = train("smollm")
    tokenizer = load_gguf(write_gguf(tmp_path / "smollm.gguf", vocabulary.metadata()))
    for text in HARD_TEXTS:
        ids = vocabulary.backend.encode(text, add_special_tokens=False).ids
        assert tokenizer.encode(text, bos=False) == ids, text


def test_a_word_that_is_a_token_is_taken_whole_where_the_model_does(
    llama3: Vocabulary, tmp_path: Path
) -> None:
    metadata = llama3.metadata() | {
        "tokens": [*llama3.tokens, "xylophone"],
        "token_type": [*llama3.types, 1],
    }
    whole = len(llama3.tokens)
    by_name = {}
    for pre in ("llama-bpe", "llama3", "llama-v3", "smaug-bpe", "dbrx"):
        path = write_gguf(tmp_path / f"{pre}.gguf", metadata | {"pre": pre})
        by_name[pre] = load_gguf(path)
        assert load_gguf(path).encode("xylophone") == by_name[pre].encode("xylophone")
    for pre in ("llama-bpe", "llama3", "llama-v3"):
        assert by_name[pre].encode("xylophone", bos=False) == [whole]
        assert by_name[pre].adds_bos
    for pre in ("smaug-bpe", "dbrx"):
        assert whole not in by_name[pre].encode("xylophone", bos=False)
        assert not by_name[pre].adds_bos


def test_bos_is_there_exactly_once(llama3_tokenizer: Tokenizer) -> None:
    bos = llama3_tokenizer.bos_id
    assert llama3_tokenizer.encode("") == [bos]
    assert llama3_tokenizer.encode("Hi").count(bos) == 1
    assert llama3_tokenizer.encode("<|begin_of_text|>Hi") == llama3_tokenizer.encode("Hi")
    assert llama3_tokenizer.encode("<|begin_of_text|>Hi", bos=False)[0] == bos
    spelled = llama3_tokenizer.encode("<|begin_of_text|>Hi", special=False)
    assert spelled.count(bos) == 1
    assert llama3_tokenizer.decode(spelled) == "<|begin_of_text|>Hi"


def test_the_metadata_decides_on_bos(llama3: Vocabulary, tmp_path: Path) -> None:
    metadata = llama3.metadata() | {"add_bos_token": False}
    tokenizer = load_gguf(write_gguf(tmp_path / "m.gguf", metadata))
    assert not tokenizer.adds_bos
    assert tokenizer.encode("") == []
    assert tokenizer.encode("", bos=True) == [tokenizer.bos_id]


def test_end_tokens_are_the_named_and_the_well_known(llama3: Vocabulary, tmp_path: Path) -> None:
    metadata = llama3.metadata() | {"eot_token_id": 7}
    tokenizer = load_gguf(write_gguf(tmp_path / "m.gguf", metadata))
    named = ("<|end_of_text|>", "<|eot_id|>", "<|eom_id|>")
    assert tokenizer.end_ids == {llama3.tokens.index(token) for token in named} | {7}


def test_control_tokens_stand_for_no_text(llama3: Vocabulary, llama3_tokenizer: Tokenizer) -> None:
    eot = llama3.tokens.index("<|eot_id|>")
    tool = llama3.tokens.index("<tool>")
    assert llama3_tokenizer.token_bytes(eot) == b""
    assert llama3_tokenizer.token_bytes(eot, special=True) == b"<|eot_id|>"
    assert llama3_tokenizer.token_bytes(tool) == b"<tool>"
    assert llama3_tokenizer.encode("<tool>", bos=False, special=False) == [tool]


def test_added_tokens_may_hold_any_characters(llama3: Vocabulary, tmp_path: Path) -> None:
    added = ["<\uff5cend▁of▁sentence\uff5c>", "two words", "Ġ"]
    tokens = [*(f"_{token}" if token == "Ġ" else token for token in llama3.tokens), *added]
    # The byte-level spelling of a blank is taken over by an added token that means the letter.
    merges = [merge for merge in llama3.merges if "Ġ" not in merge.split(" ")]
    metadata = llama3.metadata() | {
        "tokens": tokens,
        "token_type": [*llama3.types, 3, 4, 4],
        "merges": merges,
    }
    tokenizer = load_gguf(write_gguf(tmp_path / "m.gguf", metadata))
    first = len(llama3.tokens)
    text = "Ġtwo words<\uff5cend▁of▁sentence\uff5c>"
    ids = tokenizer.encode(text, bos=False)
    assert ids == [first + 2, first + 1, first]
    assert tokenizer.decode(ids, special=True) == text
    assert tokenizer.decode(ids) == "Ġtwo words"


def test_the_second_time_comes_from_the_cache(
    llama3_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = Cache(tmp_path)
    first = load_gguf(llama3_gguf, cache)
    assert [entry.kind for entry in cache.entries()] == ["tokenizer"]

    def refuse(*_: object, **__: object) -> None:
        pytest.fail("read the vocabulary from the model file")

    monkeypatch.setattr(Metadata, "strings", refuse)
    second = load_gguf(llama3_gguf, cache)
    assert second.describe() == first.describe()
    for text in HARD_TEXTS:
        assert second.encode(text) == first.encode(text)
        assert second.encode(text, special=False) == first.encode(text, special=False)


def test_a_merge_that_looks_like_the_stored_files_heading(
    llama3: Vocabulary, tmp_path: Path
) -> None:
    steps = ["# v", "#v e", "#ve r", "#ver s", "#vers i", "#versi o", "#versio n", "#version s"]
    joined = [step.replace(" ", "") for step in steps]
    metadata = llama3.metadata() | {
        "pre": "smaug-bpe",
        "tokens": [*llama3.tokens, *joined],
        "token_type": [*llama3.types, *[1] * len(joined)],
        "merges": [*steps, *llama3.merges],
    }
    path = write_gguf(tmp_path / "m.gguf", metadata)
    for _ in range(2):
        ids = load_gguf(path).encode("#versions", bos=False)
        assert ids == [len(metadata["tokens"]) - 1]


def test_without_a_cache_there_is_a_notice(llama3_gguf: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    file = open_gguf(llama3_gguf)
    notices: list[str] = []
    tokenizer = gguf_tokenizer.load(
        file.metadata,
        Cache(tmp_path / "file"),
        file.metadata_digest,
        source="m.gguf",
        notice=notices.append,
    )
    assert len(notices) == 1
    assert "RUN_PIPELINE_CACHE" in notices[0]
    for text in HARD_TEXTS:
        assert tokenizer.encode(text) == load_gguf(llama3_gguf).encode(text)


def _without(key: str) -> Callable[[dict[str, Any]], None]:
    def change(metadata: dict[str, Any]) -> None:
        del metadata[key]

    return change


def _with(key: str, value: object) -> Callable[[dict[str, Any]], None]:
    def change(metadata: dict[str, Any]) -> None:
        metadata[key] = value

    return change


def _map(key: str, change_list: Callable[[list[Any]], list[Any]]) -> Callable[..., None]:
    def change(metadata: dict[str, Any]) -> None:
        metadata[key] = change_list(metadata[key])

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_with("model", "llama"), "kind 'llama'.*--tokenizer-path"),
        (_with("model", "bert\nrt"), "kind 'bert.*--tokenizer-path"),
        (_with("pre", "bloom"), "'bloom' is unknown.*llama-bpe.*--tokenizer-path"),
        (_without("pre"), "'default' is unknown.*--tokenizer-path"),
        (_map("token_type", lambda types: types[:-1]), r"\d+ tokens but \d+ token types"),
        (_map("tokens", lambda tokens: [*tokens[:-1], tokens[3]]), "twice, as 3 and "),
        (_map("tokens", lambda tokens: ["no byte", *tokens[1:]]), "no token for 1 of the bytes"),
        (_map("merges", lambda merges: ["ab", *merges]), "merge 0 is 'ab'"),
        (_map("merges", lambda merges: [*merges, ""]), r"merge \d+ is ''"),
        (_map("merges", lambda merges: ["a  b", *merges]), "merge 0 is 'a  b'"),
        (_map("merges", lambda merges: ["a b c", *merges]), "merge 0 is 'a b c'"),
        (_map("merges", lambda merges: [" ab", *merges]), "merge 0 is ' ab'"),
        (_map("merges", lambda merges: ["q zq", *merges]), "merge 0 is 'q zq'"),
        (_map("merges", lambda merges: ["<too l>", *merges]), "merge 0 is"),
        (_with("bos_token_id", 10_000), "bos_token_id is 10000, but there are"),
        (_with("eos_token_id", -1), "eos_token_id is -1, but there are"),
        (_without("bos_token_id"), "beginning-of-text token is to be added"),
    ],
)
def test_a_damaged_tokenizer_is_one_line(
    change: Callable[[dict[str, Any]], None], message: str, llama3: Vocabulary, tmp_path: Path
) -> None:
    metadata = llama3.metadata()
    change(metadata)
    path = write_gguf(tmp_path / "damaged.gguf", metadata)
    with pytest.raises(TokenizerError, match=f"^damaged.gguf: .*{message}") as caught:
        load_gguf(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("tokens", None),
        ("merges", None),
        ("model", None),
        ("tokens", [1, 2]),
        ("merges", "a b"),
        ("token_type", ["normal"]),
        ("pre", 3),
        ("bos_token_id", "<s>"),
        ("add_bos_token", 1),
    ],
)
def test_keys_that_are_missing_or_of_another_type(
    key: str, value: object, llama3: Vocabulary, tmp_path: Path
) -> None:
    metadata = {k: v for k, v in (llama3.metadata() | {key: value}).items() if v is not None}
    path = write_gguf(tmp_path / "damaged.gguf", metadata)
    with pytest.raises(ModelFileError, match=f"tokenizer.ggml.{key}") as caught:
        load_gguf(path)
    assert "\n" not in str(caught.value)


def test_text_that_is_not_unicode(llama3_tokenizer: Tokenizer) -> None:
    undecodable_argument = os.fsdecode(b"caf\xe9")
    with pytest.raises(PipelineError, match="not valid Unicode at character 3"):
        llama3_tokenizer.encode(undecodable_argument)
