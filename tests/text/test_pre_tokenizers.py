"""How text is cut into words, against the expressions that the models' own files have."""

# ruff: noqa: E501, RUF001  (expressions as they were published)

from __future__ import annotations

import random
import string
from collections.abc import Iterator

import pytest
import regex
from tiktoken_ext import openai_public
from tokenizers import Regex, pre_tokenizers
from vocabularies import HARD_TEXTS

from pipelines.common.text.pre_tokenizers import PRE_TOKENIZERS

DEEPSEEK3 = (
    r"\p{N}{1,3}",
    "[一-龥\u3040-ゟ゠-ヿ]+",
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+",
)
PUBLISHED = {
    "tekken": (
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    ),
    "qwen35": (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    ),
    "deepseek-coder": (
        "[\r\n]",
        r"\s?\p{L}+",
        r"\s?\p{P}+",
        "[一-龥ࠀ-一가-\ud7ff]+",
        r"\p{N}",
    ),
    "deepseek-v3": DEEPSEEK3,
    "hunyuan-dense": DEEPSEEK3,
    "seed-coder": (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+",
    ),
    "bailingmoe": (
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",
    ),
}


@pytest.fixture(scope="module")
def published() -> dict[str, tuple[str, ...]]:
    """Those, and what OpenAI's package has in it."""
    with pytest.MonkeyPatch.context() as patch:  # the ranks would be downloaded
        patch.setattr(openai_public, "load_tiktoken_bpe", lambda *_, **__: {})
        o200k = (openai_public.o200k_base()["pat_str"],)
    return {**PUBLISHED, "gpt-4o": o200k, "llama4": o200k}


def texts() -> Iterator[str]:
    yield from HARD_TEXTS
    generator = random.Random(7)
    alphabet = (
        string.printable + "éÉßǅʰªñ一龥ࠀ가힣かカ١½Ⅷ\u0301\u0303\u200d😀’…\u00a0\u2028'''  \n\n"
    )
    for _ in range(1500):
        yield "".join(generator.choices(alphabet, k=generator.randrange(1, 24)))


def isolated(pieces: list[str], expression: str) -> list[str]:
    """What Split with the behaviour "isolated" does."""
    found: list[str] = []
    for piece in pieces:
        end = 0
        for match in regex.finditer(expression, piece):
            found += [piece[end : match.start()], match[0]]
            end = match.end()
        found.append(piece[end:])
    return [piece for piece in found if piece]


@pytest.mark.parametrize("name", [*PUBLISHED, "gpt-4o", "llama4"])
def test_words_are_those_of_the_published_expression(
    name: str, published: dict[str, tuple[str, ...]]
) -> None:
    ours = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(split), "isolated") for split in PRE_TOKENIZERS[name].splits]
    )
    for text in texts():
        words = [text]
        for expression in published[name]:
            words = isolated(words, expression)
        assert [word for word, _ in ours.pre_tokenize_str(text)] == words, text


def test_what_a_name_implies_beside_the_cut() -> None:
    assert PRE_TOKENIZERS["tekken"].adds_bos
    assert PRE_TOKENIZERS["tekken"].ignore_merges
    assert PRE_TOKENIZERS["qwen35"].composes
    assert not PRE_TOKENIZERS["gpt-4o"].adds_bos
