"""The tokenizer of a folder, as model repositories carry it, whatever file it is in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from pipelines.common.errors import TokenizerError
from pipelines.common.files import exists, is_folder, read_document
from pipelines.common.text import json_tokenizer, sentence_piece_tokenizer, tiktoken_tokenizer
from pipelines.common.text.sentence_piece_file import is_sentence_piece
from pipelines.common.text.tiktoken_tokenizer import is_tiktoken
from pipelines.common.text.tokenizer import Tokenizer

TOKENIZER_FILES: Final = ("tokenizer.json", "tokenizer.model")
"""What a folder is searched for: the first that is there counts."""

_MAX_BYTES: Final = 64 << 20
"""Twice the largest of models."""


def tokenizer_of_folder(path: Path, notice: Callable[[str], None]) -> Tokenizer:
    """Reads the tokenizer that lies in a folder, or in one file of it.

    That is a ``tokenizer.json`` of the `tokenizers` library, or else a ``tokenizer.model``, which
    may be SentencePiece's or, as Meta has it since Llama 3, tiktoken's. BOS, EOS and end tokens
    come from ``tokenizer_config.json``, ``special_tokens_map.json`` and ``generation_config.json``
    beside it, and from the file itself where they say nothing.

    Args:
        path: The folder, or the file, which is told by its content.
        notice: Told, in one line each, what is wrong with the tokenizer and does not keep it from
            being used.

    Raises:
        TokenizerError: There is none, or it is malformed, too large or of a kind that is not
            supported.
    """
    file = _file_in(path) if is_folder(path) else path
    try:
        content = read_document(file, _MAX_BYTES)
    except OSError as error:
        raise TokenizerError(
            f"{file}: cannot be read: {error.strerror}; expected a tokenizer.json, a"
            " tokenizer.model, or the folder of one"
        ) from error
    if is_sentence_piece(content):
        return sentence_piece_tokenizer.load(content, file, notice)
    if is_tiktoken(content):
        return tiktoken_tokenizer.load(content, file, notice)
    if file.suffix == ".model":
        raise TokenizerError(
            f"{file}: is neither a SentencePiece model nor a tiktoken file: it begins with"
            f" {content[:8]!r}"
        )
    return json_tokenizer.load(content, file, notice)


def _file_in(folder: Path) -> Path:
    files = [folder / name for name in TOKENIZER_FILES]
    return next(filter(exists, files), files[0])
