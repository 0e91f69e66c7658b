"""Byte-level BPE from a checkpoint's metadata: the kind ``gpt2``."""

from __future__ import annotations

from typing import Final

from tokenizers import models

from pipelines.common.cache import digest
from pipelines.common.checkpoints.gguf.byte_pair_vocabulary import (
    BuiltVocabulary,
    BytePairVocabulary,
    load_vocabulary,
)
from pipelines.common.checkpoints.tokenizer_source import REMEDY, TokenizerSource
from pipelines.common.errors import CacheError, TokenizerError, quoted
from pipelines.common.text.byte_pairs import assembled
from pipelines.common.text.pre_tokenizers import (
    DEFAULT,
    LLAMA3,
    PRE_TOKENIZERS,
    PreTokenizer,
)
from pipelines.common.text.tokenizer import Tokenizer

_PRE: Final = "tokenizer.ggml.pre"
_LLAMA3_TOKENS: Final = (
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
)


def load(source: TokenizerSource) -> Tokenizer:
    """Builds the tokenizer, or reads what was built before from the cache.

    Raises:
        ModelFileError: A key is missing or of the wrong type.
        TokenizerError: The vocabulary is damaged or contradictory, or its pre-tokenizer unknown.
        OfflineError: It is not in a cache that has to hold it.
    """
    metadata, name = source.metadata, source.name
    _check_pre_tokenizer(source)
    vocabulary = _vocabulary(source)
    source.tell(vocabulary.remarks)
    pre_tokenizer = _pre_tokenizer(source, vocabulary.model)
    backend = assembled(vocabulary.model, vocabulary.added, pre_tokenizer)
    size = backend.get_vocab_size()
    tokenizer = Tokenizer(
        backend,
        vocab_size=size,
        end_ids=source.end_ids(size),
        bos_id=source.bos_id(size),
        adds_bos=metadata.boolean("tokenizer.ggml.add_bos_token", pre_tokenizer.adds_bos),
        source=name,
    )
    if missing := tokenizer.missing_bytes():
        source.notice(missing)
    return tokenizer


def _check_pre_tokenizer(source: TokenizerSource) -> None:
    """Refuses what cannot be built, before anything is."""
    name = source.metadata.string(_PRE, "")
    if name and name not in PRE_TOKENIZERS:
        raise TokenizerError(
            f"{source.name}: {_PRE} is {quoted(name)}, a pre-tokenizer that is not supported;"
            f" {REMEDY}"
        )


def _vocabulary(source: TokenizerSource) -> BuiltVocabulary:
    key = digest("gguf vocabulary, format 2", source.fingerprint)
    stored = source.cache.get("tokenizer", key)
    if stored is not None:
        return load_vocabulary(stored)
    vocabulary = BytePairVocabulary.read(source.metadata, source.name)
    if vocabulary.storable:
        what = f"vocabulary of {source.name}"
        source.cache.check_may_make(f"the {what}")
        try:
            source.cache.put("tokenizer", key, vocabulary.save, what)
        except CacheError as error:
            source.notice(str(error))
    return vocabulary.build()


def _pre_tokenizer(source: TokenizerSource, model: models.BPE) -> PreTokenizer:
    """The one that the file names; without a name, what llama.cpp takes, but for Llama 3."""
    name = source.metadata.string(_PRE, "")
    if name:
        return PRE_TOKENIZERS[name]
    # Files of Llama 3 are older than the key, and no other model of then has its special tokens.
    if all(model.token_to_id(token) is not None for token in _LLAMA3_TOKENS):
        taken, why, found = "llama-bpe", "since the vocabulary is that of Llama 3", LLAMA3
    else:
        why = f"which may not be how the model was trained: convert it again, or {REMEDY}"
        taken, found = "default", DEFAULT
    source.notice(f"{source.name}: {_PRE} is missing; it is taken to be {taken!r}, {why}")
    return found
