"""The vocabulary of an encoder: words cut into pieces, as BERT does."""

from __future__ import annotations

from typing import Any, Final

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from pipelines.common.errors import TokenizerError
from pipelines.common.text.library import told_panics
from pipelines.common.text.tokenizer import check_unicode

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

    def describe(self) -> dict[str, Any]:
        """What `inspect` shows; JSON values only."""
        ids = {token: self._backend.token_to_id(token) for token in (_UNKNOWN, _FIRST, _LAST)}
        return {
            "source": self.source,
            "vocab_size": self.vocab_size,
            "special_tokens": len(ids),
            "adds_bos": True,
            "bos": {"id": ids[_FIRST], "piece": _FIRST},
            "end": [{"id": ids[_LAST], "piece": _LAST}],
        }

    def shortened(self, ids: list[int], length: int) -> list[int]:
        """The ids of a text's beginning, with those that begin and end it."""
        return ids if len(ids) <= length else [*ids[: length - 1], ids[-1]]
