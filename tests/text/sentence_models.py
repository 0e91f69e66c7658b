"""Small SentencePiece models, trained with its own package, which is also the judge."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import sentencepiece
from vocabularies import HARD_TEXTS, TRAINING_TEXT, write_gguf

from pipelines.common.text.sentence_piece_file import written
from pipelines.common.text.sentence_pieces import Pieces

USER = ["<tool>", "<<", "\n\n", "\n", "\u2581\u2581", "\u2581\u2581\u2581\u2581", "don't"]
CONTROL = ["<pad>", "<|im_end|>"]


def trained(**options: Any) -> bytes:
    """The content of a ``tokenizer.model``, of Llama 2's kind but for `options`."""
    content = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(line for text in TRAINING_TEXT for line in text.splitlines()),
        model_writer=content,
        **{
            "model_type": "bpe",
            "vocab_size": 900,
            "byte_fallback": True,
            "normalization_rule_name": "identity",
            "remove_extra_whitespaces": False,
            "allow_whitespace_only_pieces": True,
            "character_coverage": 0.98,
            "hard_vocab_limit": False,
            "minloglevel": 2,
            **options,
        },
    )
    return content.getvalue()


def judge(content: bytes) -> Any:
    return sentencepiece.SentencePieceProcessor(model_proto=content)


def pieces_of(content: bytes, user: Sequence[str] = (), **options: Any) -> Pieces:
    """A model's vocabulary as its own package tells it, which does not tell the user's pieces."""
    outside = judge(content)
    ids = range(outside.get_piece_size())
    kinds = (
        (outside.is_unknown, 2),
        (outside.is_control, 3),
        (outside.is_unused, 5),
        (outside.is_byte, 6),
    )
    types = [next((kind for is_it, kind in kinds if is_it(id)), 1) for id in ids]
    pieces = [outside.id_to_piece(id) for id in ids]
    types = [4 if p in user and k == 1 else k for p, k in zip(pieces, types, strict=True)]
    return Pieces(pieces, [outside.get_score(id) for id in ids], types, **options)


def shuffled(pieces: Pieces, seed: int, **options: Any) -> Pieces:
    """The same pieces with few different scores, so that many are alike, and some unused."""
    generator = random.Random(seed)
    scores = [float(-generator.randrange(6)) for _ in pieces.scores]
    types = [5 if kind == 1 and generator.random() < 0.1 else kind for kind in pieces.types]
    return Pieces(pieces.pieces, scores, types, **options)


def metadata_of(pieces: Pieces) -> dict[str, Any]:
    """What a GGUF of it holds as llama.cpp's converter writes it, without ``tokenizer.ggml.``.

    Pieces of the user's have their spaces.
    """
    tokens = [
        piece.replace("\u2581", " ") if kind == 4 else piece
        for piece, kind in zip(pieces.pieces, pieces.types, strict=False)
    ]
    return {
        "model": "llama",
        "tokens": tokens,
        "scores": [*pieces.scores],
        "token_type": [*pieces.types],
        "add_space_prefix": pieces.adds_space,
        "remove_extra_whitespaces": pieces.collapses_spaces,
    }


def gguf_of(path: Path, pieces: Pieces, **keys: Any) -> Path:
    """A GGUF of it; with other values for some keys, or without those that are None."""
    metadata = metadata_of(pieces) | keys
    return write_gguf(path, {key: value for key, value in metadata.items() if value is not None})


def nasty_texts(pieces: Pieces, count: int, seed: int = 0) -> Iterator[str]:
    """Texts of all kinds: fixed ones, of pieces, of odd characters, of anything."""
    yield from HARD_TEXTS
    generator = random.Random(seed)
    odd = [*"0é世 \u2581\n\t\r<>\u00a0\u3000\ufeff\ufffd\x00\u0301\u200d", "  ", "\r\n", "<0x0A>"]
    odd += [*USER, "<s>", "<unk>", "<pad>", "<|im_end|>", "👨‍👩‍👧", "e\u0301", "ab", "\U0001d573"]
    spelled = [piece.replace("\u2581", " ") for piece in pieces.pieces]
    for _ in range(count):
        match generator.randrange(4):
            case 0:
                yield "".join(generator.choices(odd, k=generator.randrange(20)))
            case 1:
                yield "".join(generator.choices(spelled, k=generator.randrange(12)))
            case 2:
                yield "".join(generator.choices([*odd, *spelled], k=generator.randrange(16)))
            case _:
                points = [*range(32, 0x2FF), *range(0x2190, 0x2FFF), *range(0x1F300, 0x1F600)]
                yield "".join(map(chr, generator.choices(points, k=generator.randrange(12))))


def judged(pieces: Pieces) -> Any:
    return judge(written(pieces))
