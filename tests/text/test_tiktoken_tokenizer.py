"""Meta's ``tokenizer.model`` of Llama 3, against tiktoken."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import tiktoken
from vocabularies import HARD_TEXTS, LLAMA3_SPLIT, Vocabulary

from pipelines.common.errors import TokenizerError
from pipelines.common.text.byte_alphabet import byte_alphabet
from pipelines.common.text.folder import tokenizer_of_folder

SPECIAL = {0: "<|begin_of_text|>", 1: "<|end_of_text|>", 8: "<|eom_id|>", 9: "<|eot_id|>"}


@pytest.fixture(scope="module")
def ranks(llama3: Vocabulary) -> list[bytes]:
    """The words of Llama 3's kind of vocabulary, in the order of their ids."""
    alphabet = byte_alphabet()
    vocabulary = json.loads(llama3.backend.to_str())["model"]["vocab"]
    return [
        bytes(alphabet[char] for char in word) for word in sorted(vocabulary, key=vocabulary.get)
    ]


@pytest.fixture
def file(ranks: list[bytes], tmp_path: Path) -> Path:
    lines = [base64.b64encode(word) + b" %d\n" % rank for rank, word in enumerate(ranks)]
    path = tmp_path / "tokenizer.model"
    path.write_bytes(b"".join(lines))
    return path


def test_ids_and_texts_are_those_of_tiktoken(ranks: list[bytes], file: Path) -> None:
    tokenizer = tokenizer_of_folder(file.parent, pytest.fail)
    size = len(ranks)
    special = {token: id for id, token in tokenizer.vocabulary.control.items()}
    assert len(special) == 256
    assert {n: tokenizer.vocabulary.token_of(size + n) for n in SPECIAL} == SPECIAL
    outside = tiktoken.Encoding(
        "llama3",
        pat_str=LLAMA3_SPLIT,
        mergeable_ranks={word: rank for rank, word in enumerate(ranks)},
        special_tokens=special,
    )
    generator = random.Random(3)
    pieces = [*special, *(word.decode(errors="ignore") for word in ranks), " ", "\n", "é", "世"]
    texts = ["".join(generator.choices(pieces, k=generator.randrange(12))) for _ in range(2000)]
    for text in (*HARD_TEXTS, *texts):
        ids = outside.encode(text, allowed_special="all")
        assert tokenizer.encode(text, bos=False) == ids, text
        assert tokenizer.decode(ids, special=True) == outside.decode(ids) == text
        plain = outside.encode(text, disallowed_special=())
        assert tokenizer.encode(text, bos=False, special=False) == plain, text


def test_it_begins_and_ends_as_llama_3_does(ranks: list[bytes], file: Path) -> None:
    tokenizer = tokenizer_of_folder(file, pytest.fail)
    size = len(ranks)
    assert tokenizer.encode("")[:1] == [size]
    assert tokenizer.end_ids == {size + 1, size + 8, size + 9}
    (file.parent / "generation_config.json").write_text(f'{{"eos_token_id": [{size + 10}]}}')
    assert tokenizer_of_folder(file, pytest.fail).end_ids == {size + n for n in (1, 8, 9, 10)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda lines: [*lines[:5], *lines[6:]],
            "line 6 is .*; expected a token in base",
        ),
        (lambda lines: [*lines[:5], b"!!! 5", *lines[6:]], "line 6 is '!!! 5'; expected"),
        (lambda lines: [*lines[:5], b"QQ==", *lines[6:]], "line 6 is 'QQ=='; expected"),
        (lambda lines: [*lines, lines[3].split()[0] + b" %d" % len(lines)], "twice, as 3 and"),
        (
            lambda lines: [*lines, b"PHxlb3RfaWR8Pg== %d" % len(lines)],
            "has the control token",
        ),
        (
            lambda lines: [*lines, base64.b64encode(b"x" * 20_000) + b" %d" % len(lines)],
            "a token of 20,000 bytes",
        ),
    ],
)
def test_a_damaged_file_is_one_line(
    change: Callable[[list[bytes]], list[bytes]], message: str, file: Path
) -> None:
    file.write_bytes(b"\n".join(change(file.read_bytes().splitlines())))
    with pytest.raises(TokenizerError, match=rf"tokenizer.model: .*{message}") as caught:
        tokenizer_of_folder(file, pytest.fail)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_a_folder_without_a_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match=r"cannot be read: No such file.*tokenizer\.model"):
        tokenizer_of_folder(tmp_path, pytest.fail)
    (tmp_path / "tokenizer.model").write_bytes(b"junk")
    with pytest.raises(TokenizerError, match="neither a SentencePiece model nor a tiktoken file"):
        tokenizer_of_folder(tmp_path, pytest.fail)
