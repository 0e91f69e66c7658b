"""Small vocabularies, trained with the `tokenizers` library and written as GGUF."""

# ruff: noqa: RUF001  (characters that are easily mistaken are what the texts are for)

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import gguf
import pytest
import tokenizers
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, trainers

from pipelines.common.cache import Cache
from pipelines.common.checkpoints.gguf.reader import open_gguf
from pipelines.common.checkpoints.tokenizer_source import TokenizerSource
from pipelines.common.registry.registry import Registry
from pipelines.common.text.tokenizer import Tokenizer

# The expressions of the models' own tokenizer.json files.
LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)

TRAINING_TEXT = [
    "I believe the meaning of life is to be happy. I'll say it's what we're for, they've said;",
    "don't DON'T She'd  I'm\tI'M we'LL you'Re 's 'T 'Ve",
    *["Then", "There", "Today", "Day", "Mix", "Red", "Said"],
    "1 12 123 1234 12345 2024-12-31 3.14159 1,000,000 x86_64 ١٢٣٤ ½²",
    "def f(x):\n    return x + 1\n\n\n\tif x:\n\t\tpass  \n   \r\n\r\n  end",
    "el niño está aquí, naïve café, Straße, Ångström, Tiếng Việt, e\u0301te\u0301",
    "生命的意义是什么？我相信。日本語のテキスト、カタカナ。한국어 문장입니다.",
    "👨‍👩‍👧 👍🏽 ❤️ 🇫🇷 😀😀 👩🏿‍🚀 the family 👨‍👩‍👧 went",
    "!!! ... ?!? --- === (a) [b] {c} <d> 'quoted' \"double\" — – … «x»",
] * 4

HARD_TEXTS = [
    "",
    " ",
    "  ",
    "\n",
    "\t",
    "\r\n",
    "a",
    "Hello, world!",
    " leading",
    "   three leading",
    "trailing ",
    "trailing   ",
    "trailing newline\n",
    "a  b   c    d",
    "a\tb\t\tc \t d\t ",
    "a\n\n\nb\r\nc\n \nd \n\n  e\n\t\n",
    " \n \n",
    "x  \n  y",
    "\u00a0nbsp\u00a0\u00a0 \u2003em\u3000ideographic\u200bzero",
    "1 12 123 1234 12345 123456 1234567",
    "3.14159, 1,000,000; 2024-12-31 x86_64 0x1F 1e-5",
    "١٢٣٤٥ १२३४ ½²³ Ⅷ ①②③④",
    "I'm you're he'd we'll they've it's don't",
    "I'M YOU'RE HE'D WE'LL THEY'VE IT'S DON'T 'S's' ''ll 'twas ſ'ſ",
    "'Then 'There 'That 'Today 'Day 'Mix 'Red 'Said 'then 'day",
    "caf\u00e9 na\u00efve \u00c5ngstr\u00f6m Ti\u1ebfng Vi\u1ec7t",
    "cafe\u0301 nai\u0308ve A\u030angstro\u0308m \u1100\u1161\u11a8 \u0344",
    "\u212b \u2126 \uf900 ﬁ",
    "生命的意义是什么？我相信。",
    "日本語のテキスト、カタカナ。漢字かな混じり文",
    "한국어 문장입니다. ภาษาไทย हिन्दी العَرَبِيَّة עברית",
    "👨‍👩‍👧 👩🏿‍🚀👍🏽👍🏿 ❤️‍🔥 🏴󠁧󠁢󠁥󠁮󠁧󠁿 🇫🇷🇩🇪 1️⃣",
    "\x00\x01\x07\x08\x1b[31m\x7f\x80\x9f\ufeff\ufffd\ufffe\U0010ffff",
    "a\u0000b \u2028line\u2029para \x0b\x0c\x85",
    "!!! ...\n\n?!?\r\n ---\n === (a) [b] {c}",
    "def f(x):\n    return x + 1\n\n\n\tif x:\n\t\tpass  \n",
    "<|begin_of_text|",
    "<|eot_id|>",
    "a <|eot_id|> b<|eot_id|><|eot_id|>\n",
    "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>",
    " <tool> x</tool><tool><tool>",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "𝕳𝖊𝖑𝖑𝖔 𐍈 \U0001f9d1\u200d",
]

CONTROL_TOKENS = [
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eom_id|>",
    "<|eot_id|>",
]
USER_TOKENS = ["<tool>", "</tool>"]


@dataclass(frozen=True)
class Vocabulary:
    """A trained vocabulary: tokens by id, their GGUF types, merges, and who trained it."""

    backend: tokenizers.Tokenizer
    tokens: list[str]
    types: list[int]
    merges: list[str]
    pre: str

    def metadata(self) -> dict[str, Any]:
        """What a GGUF of it holds, by key without the prefix ``tokenizer.ggml.``."""
        return {
            "model": "gpt2",
            "pre": self.pre,
            "tokens": self.tokens,
            "token_type": self.types,
            "merges": self.merges,
            "bos_token_id": self.tokens.index("<|begin_of_text|>"),
            "eos_token_id": self.tokens.index("<|end_of_text|>"),
        }


def train(pre: str, **options: Any) -> Vocabulary:
    """Trains a byte-level BPE with the normalizer and split that `pre` names."""
    backend = tokenizers.Tokenizer(models.BPE(**options))
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    gpt2 = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    splits = {
        "llama-bpe": [pre_tokenizers.Split(Regex(LLAMA3_SPLIT), "isolated"), byte_level],
        "qwen2": [pre_tokenizers.Split(Regex(QWEN2_SPLIT), "isolated"), byte_level],
        "smollm": [pre_tokenizers.Digits(individual_digits=True), gpt2],
        "gpt-2": [gpt2],
    }
    if pre == "qwen2":
        backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = pre_tokenizers.Sequence(splits[pre])
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=900,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    backend.train_from_iterator(TRAINING_TEXT, trainer)
    backend.add_tokens([tokenizers.AddedToken(token, normalized=False) for token in USER_TOKENS])
    backend.add_special_tokens(CONTROL_TOKENS)
    document = json.loads(backend.to_str())
    ids = backend.get_vocab()
    types = dict.fromkeys(CONTROL_TOKENS, gguf.TokenType.CONTROL)
    types |= dict.fromkeys(USER_TOKENS, gguf.TokenType.USER_DEFINED)
    tokens = sorted(ids, key=ids.__getitem__)
    return Vocabulary(
        backend=backend,
        tokens=tokens,
        types=[types.get(token, gguf.TokenType.NORMAL) for token in tokens],
        merges=[" ".join(pair) for pair in document["model"]["merges"]],
        pre=pre,
    )


def write_gguf(path: Path, tokenizer: dict[str, Any], **others: Any) -> Path:
    """Writes a GGUF with the keys of `tokenizer` under ``tokenizer.ggml.``, and `others`."""
    writer = gguf.GGUFWriter(path, "llama")
    keys = {f"tokenizer.ggml.{name}": value for name, value in tokenizer.items()} | others
    for key, value in keys.items():
        if isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, int):
            writer.add_int32(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
        else:
            writer.add_array(key, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def load_gguf(
    path: Path, cache: Cache | None = None, notice: Callable[[str], None] = pytest.fail
) -> Tokenizer:
    """Reads a GGUF's tokenizer; a notice is a failure where none is expected."""
    file = open_gguf(path)
    cache = cache or Cache(path.parent / "cache")
    source = TokenizerSource(file.metadata, cache, file.metadata_digest, path.name, notice)
    made = _registry().tokenizer(source)
    assert isinstance(made, Tokenizer)
    return made


@lru_cache
def _registry() -> Registry:
    return Registry.discover()
