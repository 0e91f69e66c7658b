"""The tokenizer that a GGUF file carries in its metadata.

Keys and token types are those of the GGUF specification
(https://github.com/ggml-org/ggml/blob/master/docs/gguf.md). The specification leaves open which
pre-tokenizers there are and what their names imply; llama.cpp decides that.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Final

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers

from pipelines.common.cache import Cache, digest
from pipelines.common.errors import CacheError, TokenizerError
from pipelines.common.text.tokenizer import Tokenizer, byte_alphabet
from pipelines.common.weights.model_file import Metadata, quoted


class _TokenType(IntEnum):
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4


@dataclass(frozen=True)
class _PreTokenizer:
    """What a value of ``tokenizer.ggml.pre`` stands for.

    Attributes:
        splits: Regular expressions that cut the text into words, one after another.
        ignore_merges: Whether a word that is a token is taken whole, whatever the merges say.
        adds_bos: Whether a text begins with BOS where ``add_bos_token`` does not tell.
        composes: Whether the text is brought into Unicode's composed form (NFC) first.
    """

    splits: tuple[str, ...]
    ignore_merges: bool = False
    adds_bos: bool = False
    composes: bool = False


def _words(digits: str) -> str:
    """The split that came with OpenAI's cl100k, which models vary by how they cut numbers."""
    return (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
        + digits
        + r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )


_GPT2_WORDS: Final = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_LLAMA3: Final = _PreTokenizer((_words(r"\p{N}{1,3}"),), ignore_merges=True, adds_bos=True)
_LLAMA3_MERGED: Final = _PreTokenizer((_words(r"\p{N}{1,3}"),))
_QWEN2: Final = _PreTokenizer((_words(r"\p{N}"),), composes=True)
_GPT2: Final = _PreTokenizer((_GPT2_WORDS,))

_PRE_TOKENIZERS: Final = {
    "llama-bpe": _LLAMA3,
    "llama3": _LLAMA3,
    "llama-v3": _LLAMA3,
    "dbrx": _LLAMA3_MERGED,
    "smaug-bpe": _LLAMA3_MERGED,
    "qwen2": _QWEN2,
    "deepseek-r1-qwen": _QWEN2,
    "gpt-2": _GPT2,
    "phi-2": _GPT2,
    "smollm": _PreTokenizer((r"\p{N}", _GPT2_WORDS)),
}


def load(
    metadata: Metadata,
    cache: Cache,
    fingerprint: str,
    *,
    source: str,
    notice: Callable[[str], None],
) -> Tokenizer:
    """Builds the tokenizer, or reads what was built before from the cache.

    Args:
        metadata: The file's metadata.
        cache: Where the checked vocabulary is kept.
        fingerprint: Digest of the file.
        source: The file's name, for messages.
        notice: Told, in one line, when the cache cannot be written.

    Raises:
        ModelFileError: A key is missing or of the wrong type.
        TokenizerError: The tokenizer is of an unsupported kind, damaged or contradictory.
        OfflineError: It is not in a cache that has to hold it.
    """
    pre_tokenizer = _pre_tokenizer(metadata, source)
    key = digest("gguf vocabulary, format 1", fingerprint)
    stored = cache.get("tokenizer", key)
    if stored is None:
        vocabulary = _Vocabulary.read(metadata, source)
        if vocabulary.storable:
            cache.check_may_make(f"the vocabulary of {source}")
            try:
                cache.put("tokenizer", key, vocabulary.save, f"vocabulary of {source}")
            except CacheError as error:
                notice(str(error))
        model, added = vocabulary.model(pre_tokenizer), vocabulary.added
    else:
        model, added = _load_vocabulary(stored, pre_tokenizer)
    backend = _assemble(model, added, pre_tokenizer)
    size = backend.get_vocab_size()
    end_ids = (_token_id(metadata, name, size, source) for name in ("eos", "eot", "eom"))
    return Tokenizer(
        backend,
        vocab_size=size,
        bos_id=_token_id(metadata, "bos", size, source),
        end_ids=[id for id in end_ids if id is not None],
        adds_bos=metadata.boolean("tokenizer.ggml.add_bos_token", pre_tokenizer.adds_bos),
        source=source,
    )


@dataclass(frozen=True)
class _Vocabulary:
    """A byte-level BPE vocabulary that has been checked.

    Attributes:
        ids: The id of each token.
        merges: Pairs of tokens with a space between them, the first to be merged first.
        added: Tokens that are found in the text before it is cut into words, and whether each is
            a control token.
    """

    ids: dict[str, int]
    merges: list[str]
    added: list[tuple[str, bool]]

    @classmethod
    def read(cls, metadata: Metadata, source: str) -> _Vocabulary:
        """Reads and checks what the metadata holds."""
        tokens = metadata.strings("tokenizer.ggml.tokens")
        merges = metadata.strings("tokenizer.ggml.merges")
        types = metadata.integers("tokenizer.ggml.token_type", [])
        if types and len(types) != len(tokens):
            raise TokenizerError(
                f"{source}: the tokenizer has {len(tokens)} tokens but {len(types)} token types"
            )
        ids = {token: id for id, token in enumerate(tokens)}
        if len(ids) != len(tokens):
            first = next(id for id, token in enumerate(tokens) if ids[token] != id)
            raise TokenizerError(
                f"{source}: the tokenizer has the token {quoted(tokens[first])} twice, "
                f"as {first} and {ids[tokens[first]]}"
            )
        _check_bytes(ids, source)
        _check_merges(ids, merges, source)
        control = (_TokenType.CONTROL, _TokenType.UNKNOWN)
        added = [
            (token, type in control)
            for token, type in zip(tokens, types, strict=False)
            if type in control or type == _TokenType.USER_DEFINED
        ]
        return cls(ids, merges, added)

    @property
    def storable(self) -> bool:
        """Whether `save` keeps every merge: a line like the file's heading would be skipped."""
        return not any(merge.startswith("#version") for merge in self.merges)

    def save(self, folder: Path) -> None:
        """Writes the files that the library reads fastest.

        With 128,000 tokens and 280,000 merges they take two thirds of the time and half of the
        memory of one ``tokenizer.json``, and a third of the time of checking it all again.
        """
        (folder / "vocab.json").write_text(json.dumps(self.ids, ensure_ascii=False), "utf-8")
        (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *self.merges, ""]), "utf-8")
        (folder / "added_tokens.json").write_text(json.dumps(self.added), "utf-8")

    def model(self, pre_tokenizer: _PreTokenizer) -> models.BPE:
        """The library's model of it."""
        pairs = [
            (left, right) for left, _, right in (merge.partition(" ") for merge in self.merges)
        ]
        return models.BPE(self.ids, pairs, ignore_merges=pre_tokenizer.ignore_merges)


def _load_vocabulary(
    folder: Path, pre_tokenizer: _PreTokenizer
) -> tuple[models.BPE, list[tuple[str, bool]]]:
    """Reads what `_Vocabulary.save` wrote."""
    model = models.BPE.from_file(
        str(folder / "vocab.json"),
        str(folder / "merges.txt"),
        ignore_merges=pre_tokenizer.ignore_merges,
    )
    added = json.loads((folder / "added_tokens.json").read_bytes())
    return model, [(content, special) for content, special in added]


def _assemble(
    model: models.BPE, added: list[tuple[str, bool]], pre_tokenizer: _PreTokenizer
) -> tokenizers.Tokenizer:
    backend = tokenizers.Tokenizer(model)
    if pre_tokenizer.composes:
        backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            *(pre_tokenizers.Split(Regex(split), "isolated") for split in pre_tokenizer.splits),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    backend.add_tokens(
        [AddedToken(content, special=special, normalized=False) for content, special in added]
    )
    return backend


def _pre_tokenizer(metadata: Metadata, source: str) -> _PreTokenizer:
    kind = metadata.string("tokenizer.ggml.model")
    if kind != "gpt2":
        raise TokenizerError(
            f"{source}: the tokenizer is of the kind {quoted(kind)}, supported is 'gpt2' "
            "(byte-level BPE); give the model's tokenizer.json with --tokenizer-path"
        )
    name = metadata.string("tokenizer.ggml.pre", "default")
    if name not in _PRE_TOKENIZERS:
        raise TokenizerError(
            f"{source}: the pre-tokenizer {quoted(name)} is unknown, supported are "
            f"{', '.join(_PRE_TOKENIZERS)}; give the model's tokenizer.json with --tokenizer-path"
        )
    return _PRE_TOKENIZERS[name]


def _token_id(metadata: Metadata, name: str, vocab_size: int, source: str) -> int | None:
    key = f"tokenizer.ggml.{name}_token_id"
    id = metadata.integer(key, None)
    if id is not None and not 0 <= id < vocab_size:
        raise TokenizerError(f"{source}: {key} is {id}, but there are {vocab_size} tokens")
    return id


def _check_bytes(ids: dict[str, int], source: str) -> None:
    """Checks that all text has tokens; the bytes left out occur in no UTF-8 text (RFC 3629)."""
    never = {0xC0, 0xC1, *range(0xF5, 0x100)}
    missing = [
        byte for char, byte in byte_alphabet().items() if byte not in never and char not in ids
    ]
    if missing:
        raise TokenizerError(
            f"{source}: the tokenizer has no token for {len(missing)} of the bytes, "
            f"0x{min(missing):02X} for one; expected byte-level BPE"
        )


def _check_merges(ids: dict[str, int], merges: list[str], source: str) -> None:
    stray = set("".join(merges)) - byte_alphabet().keys() - {" "}
    for rank, merge in enumerate(merges):
        left, _, right = merge.partition(" ")
        known = left in ids and right in ids and left + right in ids
        if not known or not left or not right or " " in right or not stray.isdisjoint(merge):
            raise TokenizerError(
                f"{source}: the tokenizer's merge {rank} is {quoted(merge)}; expected two tokens "
                "with a space between them that make a third"
            )
