"""What a folder says of its tokenizer in GGUF's keys: chat templates, and BERT's word pieces.

All other vocabularies are read from ``tokenizer.json`` when a tokenizer is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pipelines.common.checkpoints.json_file import MAX_CONFIG_BYTES, read_object
from pipelines.common.errors import ModelFileError
from pipelines.common.files import exists, read_document

TOKENIZER: Final = "tokenizer.json"
TOKENIZER_CONFIG: Final = "tokenizer_config.json"
TEMPLATE: Final = "chat_template.jinja"
POOLING: Final = Path("1_Pooling", "config.json")

_MAX_VOCABULARY_BYTES: Final = 64 << 20

_POOLINGS: Final[Mapping[str, int]] = {"mean": 1, "cls": 2, "lasttoken": 3}
"""What sentence-transformers calls a pooling, with llama.cpp's number for it."""

_WORD, _PART = "\N{LOWER ONE EIGHTH BLOCK}", "##"
_SETTINGS: Final[Mapping[str, tuple[Any, ...]]] = {
    "clean_text": (True,),
    "handle_chinese_chars": (True,),
    "lowercase": (True,),
    "strip_accents": (True, None),
}
"""What the normalizer of a vocabulary has to be that is used as BERT's without case is."""


def vocabulary_metadata(folder: Path) -> dict[str, Any]:
    """What GGUF files have of a tokenizer in their metadata, as far as something reads it there.

    Raises:
        ModelFileError: A file is damaged, or the tokenizer works otherwise than BERT's.
    """
    found: dict[str, Any] = {}
    settings = folder / TOKENIZER_CONFIG
    config = read_object(settings, MAX_CONFIG_BYTES) if exists(settings) else {}
    template = config.get("chat_template")
    if exists(folder / TEMPLATE):
        try:
            template = read_document(folder / TEMPLATE, MAX_CONFIG_BYTES).decode(errors="replace")
        except OSError as error:
            raise ModelFileError(f"{folder / TEMPLATE}: {error.strerror}") from error
    if isinstance(template, str):
        found["tokenizer.chat_template"] = template
    if str(config.get("tokenizer_class")).startswith("Bert") and exists(folder / TOKENIZER):
        pieces = _word_pieces(folder / TOKENIZER)
        found["tokenizer.ggml.model"] = "bert"
        found["tokenizer.ggml.tokens"] = [_as_gguf_has(piece) for piece in pieces]
    return found


def pooling(folder: Path) -> dict[str, Any]:
    """What makes one vector of those of a text's tokens, where sentence-transformers says it.

    Raises:
        ModelFileError: It is said in a way that cannot be applied.
    """
    path = folder / POOLING
    if not exists(path):
        return {}
    config = read_object(path, MAX_CONFIG_BYTES)
    stated = config.get("pooling_mode")
    modes = [stated] if isinstance(stated, str) else []
    for key, value in config.items():
        name = key.removeprefix("pooling_mode_").removesuffix("_tokens").removesuffix("_token")
        if key.startswith("pooling_mode_") and value is True:
            modes.append(name)
    if len(modes) != 1 or modes[0] not in _POOLINGS:
        raise ModelFileError(
            f"{path}: the pooling is {' and '.join(map(repr, modes)) or 'not said'}; expected one"
            f" of {', '.join(_POOLINGS)}"
        )
    return {"pooling_type": _POOLINGS[modes[0]]}


def _word_pieces(path: Path) -> list[str]:
    """The vocabulary in the order of its ids.

    Raises:
        ModelFileError: It is none of word pieces, or cuts texts otherwise than BERT without case.
    """
    document = read_object(path, _MAX_VOCABULARY_BYTES)
    match document:
        case {
            "model": {"type": "WordPiece", "vocab": dict(vocabulary)},
            "normalizer": {"type": "BertNormalizer", **normalizer},
            "pre_tokenizer": {"type": "BertPreTokenizer"},
        }:
            pass
        case _:
            raise ModelFileError(f"{path}: is not the tokenizer of a BERT: expected word pieces")
    for key, expected in _SETTINGS.items():
        if normalizer.get(key) not in expected:
            raise ModelFileError(
                f"{path}: its normalizer has {key} {normalizer.get(key)!r}, which changes results"
                f" and cannot be applied; expected {expected[0]}"
            )
    pieces = sorted(vocabulary, key=lambda piece: str(vocabulary[piece]).zfill(10))
    if [vocabulary[piece] for piece in pieces] != [*range(len(pieces))]:
        raise ModelFileError(f"{path}: ids of the vocabulary are missing, or there twice")
    return pieces


def _as_gguf_has(piece: str) -> str:
    """A piece as llama.cpp's converter writes it."""
    if piece.startswith("[") and piece.endswith("]"):
        return piece
    return piece.removeprefix(_PART) if piece.startswith(_PART) else f"{_WORD}{piece}"
