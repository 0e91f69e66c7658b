from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from vocabularies import HARD_TEXTS, Vocabulary

from pipelines.common.text.detokenizer import Detokenizer
from pipelines.common.text.tokenizer import Tokenizer


def stream(tokenizer: Tokenizer, ids: list[int]) -> list[str]:
    detokenizer = Detokenizer(tokenizer)
    return [*(detokenizer.push(id) for id in ids), detokenizer.flush()]


@given(data=st.data())
def test_the_pieces_are_the_whole(
    data: st.DataObject, llama3: Vocabulary, llama3_tokenizer: Tokenizer
) -> None:
    # Mostly tokens of single bytes, so that broken and truncated characters are the rule.
    id = st.integers(0, 255) | st.integers(0, len(llama3.tokens) - 1)
    ids = data.draw(st.lists(id, max_size=30))
    outside = llama3.backend.decode(ids, skip_special_tokens=True)
    assert "".join(stream(llama3_tokenizer, ids)) == llama3_tokenizer.decode(ids)
    assert outside == llama3_tokenizer.decode(ids)


def test_characters_come_whole(llama3_tokenizer: Tokenizer) -> None:
    for text in HARD_TEXTS:
        if "\ufffd" in text:
            continue
        pieces = stream(llama3_tokenizer, llama3_tokenizer.encode(text, special=False))
        assert "".join(pieces) == text
        assert not any("\ufffd" in piece for piece in pieces)
        assert pieces[-1] == ""


def test_a_family_streams_person_by_person(llama3: Vocabulary, llama3_tokenizer: Tokenizer) -> None:
    single = {token: id for id, token in enumerate(llama3.tokens)}
    spelled = llama3.backend.pre_tokenizer.pre_tokenize_str("👨‍👩‍👧")
    ids = [single[char] for word, _ in spelled for char in word]
    assert len(ids) == len("👨‍👩‍👧".encode())
    pieces = [piece for piece in stream(llama3_tokenizer, ids) if piece]
    assert pieces == ["👨", "\u200d", "👩", "\u200d", "👧"]


def test_bytes_that_cannot_become_a_character(
    llama3: Vocabulary, llama3_tokenizer: Tokenizer
) -> None:
    euro = "€".encode()
    id_of = {llama3_tokenizer.token_bytes(id): id for id in range(len(llama3.tokens))}
    first, second, letter = id_of[euro[:1]], id_of[euro[1:2]], id_of[b"A"]
    detokenizer = Detokenizer(llama3_tokenizer)
    assert [detokenizer.push(id) for id in (first, second, letter)] == ["", "", "\ufffdA"]
    assert detokenizer.push(first) == ""
    assert detokenizer.flush() == "\ufffd"
    assert detokenizer.push(letter) == "A"
    assert detokenizer.flush() == ""


def test_control_tokens_are_silent(llama3_tokenizer: Tokenizer) -> None:
    ids = llama3_tokenizer.encode("<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>")
    assert "".join(stream(llama3_tokenizer, ids)) == "user\n\nHi"
