"""The vocabulary of an encoder: words cut into pieces, as BERT does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from pipelines.common.errors import TokenizerError
from pipelines.common.text.library import told_panics
from pipelines.common.text.tokenizer import check_unicode

UNKNOWN, FIRST, LAST = "[UNK]", "[CLS]", "[SEP]"


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
        if missing := [token for token in (UNKNOWN, FIRST, LAST) if token not in ids]:
            raise TokenizerError(f"{source}: the vocabulary lacks {', '.join(missing)}")
        backend = tokenizers.Tokenizer(models.WordPiece(ids, unk_token=UNKNOWN))
        backend.normalizer = normalizers.BertNormalizer()
        backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        backend.decoder = decoders.WordPiece()
        ends = [(token, ids[token]) for token in (FIRST, LAST)]
        backend.post_processor = processors.TemplateProcessing(
            single=f"{FIRST} $A {LAST}", special_tokens=ends
        )
        self._backend = backend
        self.vocab_size: Final = len(pieces)
        self.source: Final = source

    @classmethod
    def load(cls, path: Path) -> WordPieces:
        """The vocabulary of a file that `as_json` has made.

        Raises:
            TokenizerError: It is another file, or lacks something.
        """
        try:
            ids: Any = json.loads(path.read_text(encoding="utf-8"))["model"]["vocab"]
            pieces = sorted(ids, key=ids.__getitem__)
            whole = [ids[piece] for piece in pieces] == [*range(len(pieces))]
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise TokenizerError(
                f"{path} cannot be read as the vocabulary of an encoder: {error!r}"
            ) from error
        if not whole:
            raise TokenizerError(f"{path}: the ids of the vocabulary are not 0, 1, 2 and so on")
        return cls(pieces, str(path))

    def as_json(self) -> str:
        """The content of its `tokenizer.json`."""
        text: str = self._backend.to_str()
        return text

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
        ids = {token: self._backend.token_to_id(token) for token in (UNKNOWN, FIRST, LAST)}
        return {
            "source": self.source,
            "vocab_size": self.vocab_size,
            "special_tokens": len(ids),
            "adds_bos": True,
            "bos": {"id": ids[FIRST], "piece": FIRST},
            "end": [{"id": ids[LAST], "piece": LAST}],
        }

    def shortened(self, ids: list[int], length: int) -> list[int]:
        """The ids of a text's beginning, with those that begin and end it."""
        return ids if len(ids) <= length else [*ids[: length - 1], ids[-1]]
