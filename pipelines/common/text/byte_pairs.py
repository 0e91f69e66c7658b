"""Byte-level BPE, as the `tokenizers` library has it."""

from __future__ import annotations

from collections.abc import Iterable

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers

from pipelines.common.text.pre_tokenizers import PreTokenizer


def assembled(
    model: models.BPE, added: Iterable[tuple[str, bool]], pre_tokenizer: PreTokenizer
) -> tokenizers.Tokenizer:
    """A tokenizer of the library.

    Args:
        model: The vocabulary and its merges.
        added: Tokens that are found in the text before it is cut into words, and whether each is
            a control token.
        pre_tokenizer: How text is cut into words.
    """
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
    add_whole(backend, added)
    return backend


def add_whole(backend: tokenizers.Tokenizer, added: Iterable[tuple[str, bool]]) -> None:
    """Has tokens found in the text before it is cut into words.

    Args:
        backend: The library's tokenizer.
        added: The tokens, and whether each is a control token.
    """
    backend.add_tokens(
        [AddedToken(content, special=special, normalized=False) for content, special in added]
    )
