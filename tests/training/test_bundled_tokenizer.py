"""The tokenizer against Llama 3's properties, and as `transformers` reads it from the model."""

from __future__ import annotations

from itertools import islice

import pytest
from tokenizers import Tokenizer

from training.documents import BEGIN, END, documents
from training.export import DESTINATION
from training.split import Split
from training.tokenizer import FILE, SPECIAL_TOKENS, VOCABULARY

HARD_TEXTS = (
    "Hello  world\t\ttabs", "family 👩‍👩‍👧 and flag 🇩🇪", "漢字かな交じり文", "12345 67 8",
    "café naïve É e\u0301", "  leading", "a\n\n\nb \n \n c", "don't I'LL we've", "\x00\x07\x7f", "",
)  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(FILE))


def test_special_tokens_come_last_and_are_one_token_each(tokenizer: Tokenizer) -> None:
    ids = [tokenizer.encode(token).ids for token in SPECIAL_TOKENS]
    first = VOCABULARY - len(SPECIAL_TOKENS)
    assert ids == [[number] for number in range(first, VOCABULARY)]
    assert tokenizer.get_vocab_size() == VOCABULARY


def test_every_digit_is_a_token_of_its_own(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("347+58").tokens == ["3", "4", "7", "+", "5", "8"]


def test_words_of_the_stories_are_few_tokens(tokenizer: Tokenizer) -> None:
    text = "".join(islice(documents(3, Split.HELDOUT), 200))
    assert len(text) / len(tokenizer.encode(text).ids) > 4


def test_decoding_restores_every_text(tokenizer: Tokenizer) -> None:
    for text in (*HARD_TEXTS, *islice(documents(4, Split.HELDOUT), 100)):
        ids = tokenizer.encode(text).ids
        assert tokenizer.decode(ids, skip_special_tokens=False) == text


def test_transformers_reads_the_same_tokenizer_from_the_bundled_model(tokenizer: Tokenizer) -> None:
    transformers = pytest.importorskip("transformers")
    judge = transformers.AutoTokenizer.from_pretrained(
        DESTINATION.parent, gguf_file=DESTINATION.name
    )
    for text in (*HARD_TEXTS, *islice(documents(4, Split.HELDOUT), 50)):
        expected = tokenizer.encode(text).ids
        assert judge(text, add_special_tokens=False)["input_ids"] == expected
    assert (judge.bos_token, judge.eos_token) == (BEGIN, END)
    messages = [{"role": "user", "content": "What is 7 + 5?"}]
    assert judge.apply_chat_template(messages, tokenize=False, add_generation_prompt=True) == (
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nWhat is 7 + 5?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    )
