"""The vocabulary of an encoder: words cut into pieces, as BERT does."""

from __future__ import annotations

from typing import Final

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from pipelines.common.checkpoints.checkpoint import Metadata
from pipelines.common.errors import TokenizerError, quoted
from pipelines.common.text.tokenizer import check_unicode, told_panics

_START: Final = "\N{LOWER ONE EIGHTH BLOCK}"
"""What llama.cpp's converter puts before pieces that begin a word; the others had ``##`` there."""

_UNKNOWN, _FIRST, _LAST = "[UNK]", "[CLS]", "[SEP]"


class WordPieces:
    """Text to the ids of its pieces (Schuster and Nakajima 2012; Devlin et al. 2018).

    Letters lose their case and their accents. A text begins with ``[CLS]`` and ends with
    ``[SEP]``.

    Args:
        pieces: The vocabulary in the order of its ids, pieces that go on with a word with ``##``.
        source: Where it came from, for people.

    Raises:
        TokenizerError: A token is missing that every text needs, or one is there twice.
    """

    def __init__(self, pieces: list[str], source: str) -> None:
        ids = {piece: id for id, piece in enumerate(pieces)}
        if len(ids) < len(pieces):
            raise TokenizerError(f"{source}: the vocabulary has a piece twice")
        if missing := [token for token in (_UNKNOWN, _FIRST, _LAST) if token not in ids]:
            raise TokenizerError(f"{source}: the vocabulary lacks {', '.join(missing)}")
        backend = tokenizers.Tokenizer(models.WordPiece(ids, unk_token=_UNKNOWN))
        backend.normalizer = normalizers.BertNormalizer()
        backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        backend.decoder = decoders.WordPiece()
        ends = [(token, ids[token]) for token in (_FIRST, _LAST)]
        backend.post_processor = processors.TemplateProcessing(
            single=f"{_FIRST} $A {_LAST}", special_tokens=ends
        )
        self._backend = backend
        self.vocab_size: Final = len(pieces)
        self.source: Final = source

    @classmethod
    def read(cls, metadata: Metadata, source: str) -> WordPieces:
        """The vocabulary in the metadata of a checkpoint.

        Args:
            metadata: The metadata.
            source: Name of the checkpoint, for messages.

        Raises:
            ModelFileError: A key is missing or of the wrong type.
            TokenizerError: The vocabulary is of another kind, or lacks something.
        """
        kind = metadata.string("tokenizer.ggml.model")
        if kind != "bert":
            raise TokenizerError(
                f"{source}: the tokenizer is of the kind {quoted(kind)}; encoders have 'bert'"
            )
        return cls([_with_mark(t) for t in metadata.strings("tokenizer.ggml.tokens")], source)

    def encode(self, text: str) -> list[int]:
        """The ids of a text, those that begin and end it included.

        Raises:
            PromptError: `text` holds lone surrogates.
            TokenizerError: The library fails.
        """
        check_unicode(text)
        with told_panics(self.source):
            ids: list[int] = self._backend.encode(text).ids
        return ids

    def shortened(self, ids: list[int], length: int) -> list[int]:
        """The ids of a text's beginning, with those that begin and end it."""
        return ids if len(ids) <= length else [*ids[: length - 1], ids[-1]]


def _with_mark(token: str) -> str:
    """A piece as BERT's own vocabularies write it."""
    if token.startswith(_START):
        return token.removeprefix(_START)
    return token if token.startswith("[") and token.endswith("]") else f"##{token}"
