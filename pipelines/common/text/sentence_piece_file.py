"""Reads and writes SentencePiece's ``tokenizer.model``.

The file is a protocol buffer
(https://github.com/google/sentencepiece/blob/master/src/sentencepiece_model.proto). What is needed
of it are a few fields, which are read here within their bounds; neither the package nor protobuf
is asked for at run time.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from pipelines.common.errors import TokenizerError, quoted
from pipelines.common.text import bounds
from pipelines.common.text.sentence_pieces import Pieces, PieceType

FILE_NAME: Final = "tokenizer.model"

_PIECES, _TRAINER, _NORMALIZER = 1, 2, 3
_KINDS: Final = {1: "unigram", 2: "BPE", 3: "word", 4: "char"}
_BPE: Final = 2
_VARINT, _I64, _BYTES, _I32 = 0, 1, 2, 5
_F32: Final = struct.Struct("<f")

_MODEL_TYPE, _SUFFIX, _BYTE_FALLBACK, _BOS_PIECE, _EOS_PIECE = 3, 24, 35, 46, 47
_CHARACTERS, _PREFIX, _COLLAPSES, _ESCAPES = 2, 3, 4, 5

_Field = tuple[int, int, int | bytes]


@dataclass(frozen=True)
class SentencePieceFile:
    """What a file says.

    Attributes:
        pieces: The vocabulary.
        bos: The piece that begins a text.
        eos: The piece that ends one.
    """

    pieces: Pieces
    bos: str
    eos: str


def is_sentence_piece(content: bytes) -> bool:
    """Whether a file may be one: it begins with a piece, whose text comes first."""
    return content[:1] == b"\n" and content[2:3] == b"\n"


def read(content: bytes, source: str) -> SentencePieceFile:
    """Reads a file.

    Args:
        content: All of it.
        source: Its name, for messages.

    Raises:
        TokenizerError: It is damaged, or of a kind that is not supported.
    """
    texts: list[str] = []
    scores: list[float] = []
    types: list[int] = []
    parts: dict[int, bytes] = {_TRAINER: b"", _NORMALIZER: b""}
    try:
        for number, _, value in _fields(content):
            if not isinstance(value, bytes):
                continue
            if number == _PIECES:
                bounds.check_count(len(texts) + 1, bounds.MAX_TOKENS, "tokens", source)
                text, score, kind = _piece(value)
                texts.append(text)
                scores.append(score)
                types.append(kind)
            elif number in parts:
                parts[number] += value  # as protocol buffers join what comes twice
        trainer = {number: value for number, _, value in _fields(parts[_TRAINER])}
        normalizer = {number: value for number, _, value in _fields(parts[_NORMALIZER])}
        bos, eos = _text(trainer, _BOS_PIECE, "<s>"), _text(trainer, _EOS_PIECE, "</s>")
    except ValueError as error:
        raise TokenizerError(
            f"{source}: is not a SentencePiece model that can be read: {error}"
        ) from error
    _check_supported(trainer, normalizer, source)
    pieces = Pieces(
        texts,
        scores,
        types,
        adds_space=bool(normalizer.get(_PREFIX, True)),
        collapses_spaces=bool(normalizer.get(_COLLAPSES, True)),
    )
    return SentencePieceFile(pieces, bos, eos)


def written(pieces: Pieces) -> bytes:
    """The content of a file with these pieces."""
    score_tag = _tag(2, _I32)
    ends = {int(kind): _of_int(3, kind) for kind in PieceType}
    parts = [
        _of_bytes(_PIECES, _of_bytes(1, piece.encode()) + score_tag + _F32.pack(score) + ends[kind])
        for piece, score, kind in zip(pieces.pieces, pieces.scores, pieces.types, strict=True)
    ]
    trainer = _of_int(_MODEL_TYPE, _BPE) + _of_int(4, len(parts))
    trainer += _of_int(_BYTE_FALLBACK, PieceType.BYTE in pieces.types)
    normalizer = _of_bytes(1, b"identity") + _of_int(_PREFIX, pieces.adds_space)
    normalizer += _of_int(_COLLAPSES, pieces.collapses_spaces) + _of_int(_ESCAPES, True)
    return b"".join([*parts, _of_bytes(_TRAINER, trainer), _of_bytes(_NORMALIZER, normalizer)])


def _check_supported(
    trainer: dict[int, int | bytes], normalizer: dict[int, int | bytes], source: str
) -> None:
    kind = trainer.get(_MODEL_TYPE, 1)
    if kind != _BPE:
        name = _KINDS.get(kind, str(kind)) if isinstance(kind, int) else "?"
        raise TokenizerError(
            f"{source}: is a SentencePiece model of the kind {quoted(name)}, supported is 'BPE';"
            " give a tokenizer.json with `tokenizer_path`"
        )
    for settings, number, expected, what in (
        (normalizer, _CHARACTERS, b"", "a table of characters that are replaced"),
        (normalizer, _ESCAPES, 1, "spaces that are not escaped"),
        (trainer, _SUFFIX, 0, "spaces that end words"),
    ):
        if settings.get(number, expected) != expected:
            raise TokenizerError(
                f"{source}: is a SentencePiece model with {what}, which is not supported; give a"
                " tokenizer.json with `tokenizer_path`"
            )


def _piece(data: bytes) -> tuple[str, float, int]:
    # Nearly all are of this form: the text, shorter than 128 bytes, the score, perhaps the type.
    size = data[1] if len(data) > 1 else 0
    rest = len(data) - size - 2
    if data[:1] == b"\n" and size < 128 and rest in (5, 7) and data[size + 2] == 0x15:
        kind = 1 if rest == 5 else data[-1] if data[-2] == 0x18 and data[-1] < 128 else 0
        if kind:
            return data[2 : size + 2].decode(), _F32.unpack_from(data, size + 3)[0], kind
    text, score, kind = "", 0.0, int(PieceType.NORMAL)
    for number, wire, value in _fields(data):
        if number == 1 and isinstance(value, bytes):
            text = value.decode()
        elif number == 2 and wire == _I32 and isinstance(value, bytes):
            score = _F32.unpack(value)[0]
        elif number == 3 and isinstance(value, int):
            kind = value
    return text, score, kind


def _text(fields: dict[int, int | bytes], number: int, default: str) -> str:
    value = fields.get(number)
    return value.decode() if isinstance(value, bytes) else default


def _fields(data: bytes) -> Iterator[_Field]:
    """The fields of a message: number, wire type, and an integer or bytes.

    Raises:
        ValueError: It is cut short, or has what no such file has.
    """
    position, end = 0, len(data)
    while position < end:
        tag, position = _varint(data, position)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, position = _varint(data, position)
            yield number, wire, value
            continue
        if wire == _BYTES:
            size, position = _varint(data, position)
        elif wire in (_I64, _I32):
            size = 8 if wire == _I64 else 4
        else:
            raise ValueError(f"field {number} is of the type {wire}")
        if size > end - position:
            raise ValueError(f"field {number} takes {size} bytes, {end - position} are left")
        yield number, wire, data[position : position + size]
        position += size


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position == len(data):
            raise ValueError("it ends within a number")
        byte = data[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
    raise ValueError("it has a number of more than 64 bits")


def _tag(number: int, wire: int) -> bytes:
    return _number(number << 3 | wire)


def _of_int(number: int, value: int) -> bytes:
    return _tag(number, _VARINT) + _number(value)


def _of_bytes(number: int, value: bytes) -> bytes:
    size = len(value)
    if number < 16 and size < 128:  # as nearly all of a vocabulary is
        return bytes((number << 3 | _BYTES, size)) + value
    return _tag(number, _BYTES) + _number(size) + value


def _number(value: int) -> bytes:
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])
