"""The least number of tokens that a text can have, against the number that it has."""

from __future__ import annotations

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers

from pipelines.common.text import length
from pipelines.common.text.byte_alphabet import byte_alphabet
from pipelines.common.text.length import least_tokens
from pipelines.common.text.tokenizer import Tokenizer


def made(pre_tokenizer=None, *, without=b"", normalizer=None, added=()):
    """A vocabulary of bytes, "aa", "aaaa" and a control token."""
    alphabet = {char: byte for char, byte in byte_alphabet().items() if byte not in without}
    vocabulary = {char: id for id, char in enumerate([*alphabet, "aa", "aaaa"])}
    model = models.BPE(vocab=vocabulary, merges=[("a", "a"), ("aa", "aa")])
    backend = tokenizers.Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizer or pre_tokenizers.ByteLevel(
        add_prefix_space=False, use_regex=False
    )
    if normalizer is not None:
        backend.normalizer = normalizer
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(["<|end_of_text|>", *added])
    return Tokenizer(
        backend,
        vocab_size=backend.get_vocab_size(),
        bos_id=None,
        end_ids=[],
        adds_bos=False,
        source="test",
    )


BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
SPLIT = pre_tokenizers.Sequence([pre_tokenizers.Split(tokenizers.Regex(r"\s+"), "isolated"), BYTES])
TOKENIZERS = [made(), made(BYTES), made(SPLIT), made(without=b"b\xc3 ")]


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(TOKENIZERS),
    st.text(alphabet=st.sampled_from("aab ü🦙\n<"), max_size=60),
    st.sampled_from(["", "<|end_of_text|>", "aaaa", "b", " "]),
    st.booleans(),
)
def test_a_text_has_no_fewer(tokenizer, text, more, special):
    text += more * 9
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(length, "_SMALL", 0)
        least = least_tokens(tokenizer, text)
    assert least <= len(tokenizer.encode(text, special=special))


def test_it_is_known_of_long_texts():
    tokenizer = made()
    longest = len("<|end_of_text|>")
    assert least_tokens(tokenizer, "a" * 100_000) == -(-100_000 // longest)
    assert least_tokens(tokenizer, "ü" * 100_000) == -(-200_000 // longest)
    assert least_tokens(tokenizer, "a" * 1_000) == 0
    assert least_tokens(made(without=b"b"), "b" * 100_000) == 0


@pytest.mark.parametrize(
    "tokenizer",
    [
        made(normalizer=normalizers.Strip()),
        made(added=[AddedToken("<pad>", special=True, lstrip=True)]),
        made(
            pre_tokenizers.Sequence(
                [pre_tokenizers.Split(tokenizers.Regex(r"\s+"), "removed"), BYTES]
            )
        ),
    ],
)
def test_it_is_not_known_where_a_part_of_the_text_may_vanish(tokenizer):
    assert least_tokens(tokenizer, "a" * 100_000) == 0
