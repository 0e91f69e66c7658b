"""The tokenizer that a GGUF file carries in its metadata.

Keys and token types are those of the GGUF specification
(https://github.com/ggml-org/ggml/blob/master/docs/gguf.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers

from pipelines.common.cache import Cache, digest
from pipelines.common.checkpoints.checkpoint import Metadata
from pipelines.common.checkpoints.gguf.vocabulary import (
    BuiltVocabulary,
    Vocabulary,
    load_vocabulary,
)
from pipelines.common.errors import CacheError, TokenizerError, quoted
from pipelines.common.text.pre_tokenizers import LLAMA3, PRE_TOKENIZERS, PreTokenizer
from pipelines.common.text.tokenizer import Tokenizer

MODEL: Final = "tokenizer.ggml.model"
"""Key that names the kind of the tokenizer; a file without it has none."""

_PRE: Final = "tokenizer.ggml.pre"
_END_KEYS: Final = ("eos", "eot", "eom", "fim_pad", "fim_rep", "fim_sep")
_LLAMA3_TOKENS: Final = (
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
)
_REMEDY: Final = "give the model's tokenizer.json with `tokenizer_path`"


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
        notice: Told, in one line each, what is wrong with the tokenizer and does not keep it from
            being used, and when the cache cannot be written.

    Raises:
        ModelFileError: A key is missing or of the wrong type.
        TokenizerError: The tokenizer is of an unsupported kind, damaged or contradictory.
        OfflineError: It is not in a cache that has to hold it.
    """
    _check_kind(metadata, source)
    vocabulary = _vocabulary(metadata, cache, fingerprint, source, notice)
    for remark in vocabulary.remarks:
        notice(f"{source}: the tokenizer is used although {remark}")
    pre_tokenizer = _pre_tokenizer(metadata, vocabulary.model, source, notice)
    backend = _assemble(vocabulary.model, vocabulary.added, pre_tokenizer)
    size = backend.get_vocab_size()
    end_ids = _token_ids(metadata, _END_KEYS, size, source, notice)
    bos_id = next(_token_ids(metadata, ("bos",), size, source, notice), None)
    tokenizer = Tokenizer(
        backend,
        vocab_size=size,
        bos_id=bos_id,
        end_ids=end_ids,
        adds_bos=metadata.boolean("tokenizer.ggml.add_bos_token", pre_tokenizer.adds_bos),
        source=source,
    )
    if missing := tokenizer.missing_bytes():
        notice(missing)
    return tokenizer


def _check_kind(metadata: Metadata, source: str) -> None:
    """Refuses what cannot be built, before anything is."""
    kind = metadata.string(MODEL)
    if kind != "gpt2":
        raise TokenizerError(
            f"{source}: the tokenizer is of the kind {quoted(kind)}, supported is 'gpt2' "
            f"(byte-level BPE); {_REMEDY}"
        )
    name = metadata.string(_PRE, "")
    if name and name not in PRE_TOKENIZERS:
        raise TokenizerError(
            f"{source}: {_PRE} is {quoted(name)}, a pre-tokenizer that is not supported; {_REMEDY}"
        )


def _vocabulary(
    metadata: Metadata,
    cache: Cache,
    fingerprint: str,
    source: str,
    notice: Callable[[str], None],
) -> BuiltVocabulary:
    key = digest("gguf vocabulary, format 2", fingerprint)
    stored = cache.get("tokenizer", key)
    if stored is not None:
        return load_vocabulary(stored)
    vocabulary = Vocabulary.read(metadata, source)
    if vocabulary.storable:
        cache.check_may_make(f"the vocabulary of {source}")
        try:
            cache.put("tokenizer", key, vocabulary.save, f"vocabulary of {source}")
        except CacheError as error:
            notice(str(error))
    return vocabulary.build()


def _pre_tokenizer(
    metadata: Metadata, model: models.BPE, source: str, notice: Callable[[str], None]
) -> PreTokenizer:
    """The one that the file names; without a name, Llama 3's for Llama 3's vocabulary."""
    name = metadata.string(_PRE, "")
    if name:
        return PRE_TOKENIZERS[name]
    # Files of Llama 3 are older than the key, and no other model of then has its special tokens.
    if any(model.token_to_id(token) is None for token in _LLAMA3_TOKENS):
        raise TokenizerError(
            f"{source}: {_PRE} is missing, which says how text is cut into words; {_REMEDY}, or"
            " convert the model again"
        )
    notice(
        f"{source}: {_PRE} is missing; it is taken to be 'llama-bpe', since the vocabulary is that"
        " of Llama 3"
    )
    return LLAMA3


def _assemble(
    model: models.BPE, added: Iterable[tuple[str, bool]], pre_tokenizer: PreTokenizer
) -> tokenizers.Tokenizer:
    model.ignore_merges = pre_tokenizer.ignore_merges
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


def _token_ids(
    metadata: Metadata,
    names: Iterable[str],
    vocab_size: int,
    source: str,
    notice: Callable[[str], None],
) -> Iterator[int]:
    """The ids of special tokens, of those that the file names and the vocabulary has."""
    for name in names:
        key = f"tokenizer.ggml.{name}_token_id"
        id = metadata.integer(key, None)
        if id is None:
            continue
        if 0 <= id < vocab_size:
            yield id
        else:
            notice(f"{source}: {key} is {id}, but there are {vocab_size} tokens; it is ignored")
