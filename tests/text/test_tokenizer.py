from __future__ import annotations

import unicodedata

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import decoders, models
from transformers.convert_slow_tokenizer import bytes_to_unicode
from vocabularies import Vocabulary

from pipelines.common.errors import TokenizerError
from pipelines.common.text.byte_alphabet import byte_alphabet
from pipelines.common.text.tokenizer import Tokenizer, check_matches

any_text = st.text(st.characters(exclude_categories=["Cs"]))
words = st.sampled_from(
    [
        "<|eot_id|>",
        "<|begin_of_text|>",
        "<tool>",
        " ",
        "\n",
        "\r",
        "\t",
        "'s",
        "'LL",
        "é",
        "👨‍👩‍👧",
        "12",
    ]
)


@given(text=any_text | st.lists(words | any_text).map("".join))
def test_decoding_undoes_encoding(text: str, llama3_tokenizer: Tokenizer) -> None:
    plain = llama3_tokenizer.encode(text, special=False)
    assert llama3_tokenizer.decode(plain) == text
    parsed = llama3_tokenizer.encode(text, bos=False)
    assert llama3_tokenizer.decode(parsed, special=True) == text


@given(text=st.lists(words | any_text).map("".join))
def test_ids_are_those_of_the_library_on_any_text(
    text: str, llama3: Vocabulary, llama3_tokenizer: Tokenizer
) -> None:
    ids = llama3.backend.encode(text, add_special_tokens=False).ids
    assert llama3_tokenizer.encode(text, bos=False) == ids


def test_the_byte_alphabet_is_gpt2s() -> None:
    assert byte_alphabet() == {char: byte for byte, char in bytes_to_unicode().items()}


def test_pieces_are_printable(llama3: Vocabulary, llama3_tokenizer: Tokenizer) -> None:
    pieces = [llama3_tokenizer.piece(id) for id in range(len(llama3.tokens))]
    assert all(piece.isprintable() and piece for piece in pieces)
    assert "".join(
        map(llama3_tokenizer.piece, llama3_tokenizer.encode("I am\n\t1é<|eot_id|>"))
    ) == ("<|begin_of_text|>I am\\n\\t1é<|eot_id|>")
    cut = next(id for id, token in enumerate(llama3.tokens) if token == "ð")
    assert llama3_tokenizer.piece(cut) == "\\xf0"
    assert unicodedata.category("\u200d") == "Cf"
    joiner = llama3_tokenizer.encode("\u200d", bos=False)
    assert b"".join(map(llama3_tokenizer.token_bytes, joiner)) == "\u200d".encode()


def test_ids_beyond_the_vocabulary_stand_for_nothing(llama3_tokenizer: Tokenizer) -> None:
    beyond = llama3_tokenizer.vocab_size
    assert llama3_tokenizer.token_bytes(beyond) == b""
    assert llama3_tokenizer.token_bytes(beyond - 1, special=True) != b""
    assert llama3_tokenizer.decode([beyond]) == ""


def test_description(llama3: Vocabulary, llama3_tokenizer: Tokenizer) -> None:
    described = llama3_tokenizer.describe()
    assert described["vocab_size"] == len(llama3.tokens)
    assert described["bos"] == {
        "id": llama3.tokens.index("<|begin_of_text|>"),
        "piece": "<|begin_of_text|>",
    }
    assert [end["piece"] for end in described["end"]] == [
        "<|end_of_text|>",
        "<|eom_id|>",
        "<|eot_id|>",
    ]


def _tokenizer_of_size(size: int) -> Tokenizer:
    backend = tokenizers.Tokenizer(models.BPE({str(id): id for id in range(size)}, []))
    backend.decoder = decoders.ByteLevel()
    return Tokenizer(
        backend, vocab_size=size, bos_id=None, end_ids=(), adds_bos=False, source="tokenizer.json"
    )


@pytest.mark.parametrize(
    ("tokens", "rows"),
    [(300, 300), (300, 512), (300, 1024), (10_000, 10_240), (50_295, 51_200), (151_665, 151_936)],
)
def test_padded_vocabularies_match(tokens: int, rows: int) -> None:
    check_matches(_tokenizer_of_size(tokens), rows)


@pytest.mark.parametrize(("tokens", "rows"), [(301, 300), (300, 4096), (50_257, 128_256)])
def test_vocabularies_of_other_models_do_not(tokens: int, rows: int) -> None:
    with pytest.raises(TokenizerError, match=f"{tokens:,} tokens but the model.*{rows:,}"):
        check_matches(_tokenizer_of_size(tokens), rows)


def test_asking_for_a_bos_that_is_not_there() -> None:
    with pytest.raises(TokenizerError, match=r"tokenizer\.json: there is no beginning-of-text"):
        _tokenizer_of_size(10).encode("1", bos=True)
