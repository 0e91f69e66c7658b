from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import pytest
from transformers import AutoTokenizer, GPT2Tokenizer, PreTrainedTokenizerFast, Qwen2Tokenizer
from vocabularies import HARD_TEXTS, Vocabulary, load_gguf, train, write_gguf

from pipelines.common.cache import Cache
from pipelines.common.checkpoints.checkpoint import Metadata
from pipelines.common.errors import ModelFileError, PipelineError, TokenizerError
from pipelines.common.text import bounds
from pipelines.common.text.byte_alphabet import byte_alphabet
from pipelines.common.text.tokenizer import Tokenizer


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
    path = write_gguf(tmp_path / "m.gguf", metadata)
    # Without the merges of blanks, others have nothing to build on.
    tokenizer = load_gguf(path, notice=lambda _: None)
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
    notices: list[str] = []
    tokenizer = load_gguf(llama3_gguf, Cache(tmp_path / "file"), notices.append)
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


def _many_control_tokens(metadata: dict[str, Any]) -> None:
    metadata["tokens"] = [*metadata["tokens"], *(f"{i:010000}" for i in range(500))]
    metadata["token_type"] = [*metadata["token_type"], *[gguf.TokenType.CONTROL] * 500]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_with("model", "rwkv"), "kind 'rwkv', known are .*'gpt2', 'llama'; .*`tokenizer_path`"),
        (_with("model", "bert\nrt"), "kind 'bert.*`tokenizer_path`"),
        (
            _with("pre", "gemma4"),
            "pre is 'gemma4', a pre-tokenizer.*not supported.*`tokenizer_path`",
        ),
        (_map("token_type", lambda types: types[:-1]), r"\d+ tokens but \d+ token types"),
        (_map("tokens", lambda tokens: [*tokens[:-1], tokens[3]]), "twice, as 3 and "),
        (
            _map("tokens", lambda tokens: [*tokens[:-2], "", f"[EMPTY_{len(tokens) - 2}]"]),
            "twice, as",
        ),
        (_map("merges", lambda merges: ["q z", *merges]), "merge 0 is 'q z'"),
        (_map("merges", lambda merges: ["q z", "qz q", *merges]), "merge 0 is 'q z'"),
        (_with("bos_token_id", 10_000), "beginning-of-text token is to be added"),
        (_without("bos_token_id"), "beginning-of-text token is to be added"),
        (_map("tokens", lambda tokens: [*tokens[:-1], "x" * 20_000]), "a token of 20,000 bytes"),
        (_many_control_tokens, "added tokens have 5,000,101 bytes, expected at most"),
    ],
)
def test_a_damaged_tokenizer_is_one_line(
    change: Callable[[dict[str, Any]], None], message: str, llama3: Vocabulary, tmp_path: Path
) -> None:
    metadata = llama3.metadata()
    change(metadata)
    path = write_gguf(tmp_path / "damaged.gguf", metadata)
    with pytest.raises(TokenizerError, match=f"^damaged.gguf: .*{message}") as caught:
        load_gguf(path, notice=lambda _: None)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_without("pre"), "pre is missing; it is taken to be 'llama-bpe'"),
        (_with("pre", ""), "pre is missing; it is taken to be 'llama-bpe'"),
        (_map("token_type", lambda types: [*types, 1, 3]), "the last 2 token types belong"),
        (_with("eos_token_id", 10_000), "eos_token_id is 10000, but there are"),
        (_with("eos_token_id", -1), "eos_token_id is -1, but there are"),
        (_map("merges", lambda merges: ["ab", *merges]), "1 of .* merges never apply, 'ab'"),
        (_map("merges", lambda merges: [*merges, ""]), "1 of .* merges never apply, ''"),
        (_map("merges", lambda merges: ["a  b", *merges]), "1 of .* merges never apply, 'a  b'"),
        (_map("merges", lambda merges: ["a b c", *merges]), "1 of .* merges never apply"),
        (_map("merges", lambda merges: [" ab", *merges]), "1 of .* merges never apply, ' ab'"),
        (_map("merges", lambda merges: ["q zq", *merges]), "1 of .* merges never apply, 'q zq'"),
        (_map("merges", lambda merges: ["<too l>", *merges]), "1 of .* merges never apply"),
        (_map("merges", lambda merges: ["生 命", *merges]), "1 of .* merges never apply"),
        (_map("merges", lambda merges: [*merges, merges[0]]), "1 of .* merges never apply"),
    ],
)
def test_what_llama_cpp_overlooks_is_told(
    change: Callable[[dict[str, Any]], None],
    message: str,
    llama3: Vocabulary,
    llama3_tokenizer: Tokenizer,
    tmp_path: Path,
) -> None:
    metadata = llama3.metadata()
    change(metadata)
    path = write_gguf(tmp_path / "odd.gguf", metadata)
    for _ in ("read", "from the cache"):
        notices: list[str] = []
        tokenizer = load_gguf(path, notice=notices.append)
        assert len(notices) == 1
        assert re.match(rf"odd\.gguf: .*{message}", notices[0])
        for text in HARD_TEXTS:
            assert tokenizer.encode(text) == llama3_tokenizer.encode(text), text


@pytest.mark.parametrize("pre", [None, ""])
def test_without_the_name_of_a_pre_tokenizer(
    pre: str | None, llama3: Vocabulary, tmp_path: Path
) -> None:
    tokens = [{"<|eot_id|>": "<|other|>"}.get(token, token) for token in llama3.tokens]
    metadata = llama3.metadata() | {"tokens": tokens, "pre": pre}
    unnamed = {key: value for key, value in metadata.items() if value is not None}
    path = write_gguf(tmp_path / "m.gguf", unnamed | {"add_bos_token": False})
    notices: list[str] = []
    tokenizer = load_gguf(path, notice=notices.append)
    (notice,) = notices
    assert "pre is missing; it is taken to be 'default'" in notice
    named = write_gguf(tmp_path / "named.gguf", metadata | {"pre": "default"})
    for text in HARD_TEXTS:
        assert tokenizer.encode(text) == load_gguf(named).encode(text, bos=False)


def test_a_token_without_text(llama3: Vocabulary, tmp_path: Path) -> None:
    metadata = llama3.metadata() | {
        "tokens": [*llama3.tokens, "", ""],
        "token_type": [*llama3.types, 1, 3],
    }
    tokenizer = load_gguf(write_gguf(tmp_path / "m.gguf", metadata))
    size = len(llama3.tokens)
    assert tokenizer.vocab_size == size + 2
    assert tokenizer.token_bytes(size) == f"[EMPTY_{size}]".encode()
    assert tokenizer.token_bytes(size + 1) == b""


def test_bytes_without_a_token_are_left_out(llama3: Vocabulary, tmp_path: Path) -> None:
    control = next(char for char, byte in byte_alphabet().items() if byte == 4)
    lead = next(char for char, byte in byte_alphabet().items() if byte == 0xF1)
    tokens = [{control: "no 4", lead: "no 241"}.get(token, token) for token in llama3.tokens]
    path = write_gguf(tmp_path / "m.gguf", llama3.metadata() | {"tokens": tokens})
    notices: list[str] = []
    tokenizer = load_gguf(path, notice=notices.append)
    assert [notice.split("; ")[0] for notice in notices] == [
        "m.gguf: the tokenizer has no token for 2 of the bytes that text consists of (0x04, 0xF1)"
    ]
    assert tokenizer.encode("a\x04b") == tokenizer.encode("a") + tokenizer.encode("b", bos=False)
    assert tokenizer.encode("\x04", bos=False) == []


def test_more_tokens_or_merges_than_a_model_has(
    llama3: Vocabulary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_gguf(tmp_path / "m.gguf", llama3.metadata())

    def refuse(*_: object, **__: object) -> None:
        pytest.fail("decoded an array before its length was checked")

    monkeypatch.setattr(Metadata, "strings", refuse)
    for limit, what in (("MAX_TOKENS", "tokens"), ("MAX_MERGES", "merges")):
        with monkeypatch.context() as patch:
            patch.setattr(bounds, limit, 100)
            with pytest.raises(TokenizerError, match=rf"m.gguf: .* has \d+ {what}, expected"):
                load_gguf(path)


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
        ("add_bos_token", 2),
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
