"""Word pieces from a checkpoint's metadata: the kind ``bert``."""

from __future__ import annotations

from typing import Final

from pipelines.common.checkpoints.tokenizer_source import TokenizerSource
from pipelines.common.text.word_pieces import WordPieces

_START: Final = "\N{LOWER ONE EIGHTH BLOCK}"
"""What llama.cpp's converter puts before pieces that begin a word; the others had ``##`` there."""


def load(source: TokenizerSource) -> WordPieces:
    """Builds the tokenizer.

    Raises:
        ModelFileError: A key is missing or of the wrong type.
        TokenizerError: The vocabulary lacks something.
    """
    tokens = source.metadata.strings("tokenizer.ggml.tokens")
    return WordPieces([_with_mark(token) for token in tokens], source.name)


def _with_mark(token: str) -> str:
    """A piece as BERT's own vocabularies write it."""
    if token.startswith(_START):
        return token.removeprefix(_START)
    return token if token.startswith("[") and token.endswith("]") else f"##{token}"
