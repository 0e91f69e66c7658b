"""A tokenizer from SentencePiece's ``tokenizer.model`` and the settings beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from pipelines.common.errors import TokenizerError, quoted
from pipelines.common.text import bounds, sentence_piece_file
from pipelines.common.text.sentence_pieces import Pieces, PieceType, SentencePieces
from pipelines.common.text.settings import AddedToken, Settings
from pipelines.common.text.tokenizer import Tokenizer


def load(content: bytes, file: Path, notice: Callable[[str], None]) -> Tokenizer:
    """Reads a tokenizer; tokens that the settings add follow those of the file.

    Args:
        content: Of the file.
        file: Where it is.
        notice: Told what is wrong with the settings and does not keep it from being used.

    Raises:
        TokenizerError: A file is malformed or too large, or of a kind that is not supported.
    """
    read = sentence_piece_file.read(content, str(file))
    settings = Settings(file.parent, notice)
    pieces = _with_added(read.pieces, settings.added_tokens(), file)
    vocabulary = SentencePieces(pieces, str(file))
    bos_id = vocabulary.id_of(read.bos)
    special = settings.special_tokens(
        vocabulary.id_of,
        range(len(pieces.pieces)),
        bos_id=bos_id,
        adds_bos=bos_id is not None,
        eos_id=vocabulary.id_of(read.eos),
    )
    return Tokenizer(
        vocabulary,
        vocab_size=len(pieces.pieces),
        bos_id=special.bos_id,
        end_ids=special.end_ids,
        eos_id=special.eos_id,
        adds_bos=special.adds_bos,
        source=str(file),
    )


def _with_added(pieces: Pieces, added: Iterable[AddedToken], file: Path) -> Pieces:
    """The pieces with those that settings add at their end."""
    texts, scores, types = [*pieces.pieces], [*pieces.scores], [*pieces.types]
    for token in added:
        kind = PieceType.CONTROL if token.control else PieceType.USER_DEFINED
        if token.id == len(texts):
            bounds.check_count(token.id + 1, bounds.MAX_TOKENS, "tokens", str(file))
            texts.append(token.text)
            scores.append(0.0)
            types.append(kind)
        elif token.id > len(texts):
            raise TokenizerError(
                f"{file}: the settings beside it add {quoted(token.text)} as {token.id}, but"
                f" there are {len(texts)} tokens before it"
            )
        elif texts[token.id] != token.text:
            raise TokenizerError(
                f"{file}: the settings beside it have {quoted(token.text)} as {token.id}, where"
                f" the file has {quoted(texts[token.id])}"
            )
        elif types[token.id] == PieceType.NORMAL:
            types[token.id] = kind
    return replace(pieces, pieces=texts, scores=scores, types=types)
