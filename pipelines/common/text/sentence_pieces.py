"""The byte-pair encoding of SentencePiece, which merges by score.

Source: Kudo and Richardson 2018, "SentencePiece: A simple and language independent subword
tokenizer and detokenizer for Neural Text Processing", and the code released with it.

Wherever two neighbours make a piece of the vocabulary, that piece's score tells when they are
merged: the highest first, of equal ones the leftmost. The `tokenizers` library would need each
pair that makes a piece as a merge of its own rank: half a million for 262,144 pieces, which take it
over a second to read, and other pieces where scores are equal. Here nothing is derived.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from heapq import heapify, heappop, heappush
from math import isfinite
from typing import Final

from pipelines.common.errors import TokenizerError, quoted
from pipelines.common.text import bounds
from pipelines.common.text.literals import Literals
from pipelines.common.text.vocabulary import ids_of

SPACE: Final = "\N{LOWER ONE EIGHTH BLOCK}"
"""What pieces have in the place of a space."""

_KEPT_WORDS: Final = 1 << 16
"""Words whose ids are remembered."""

_LONGEST_KEPT: Final = 64

_BYTE: Final = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class PieceType(IntEnum):
    """Types of pieces, by the numbers that GGUF and SentencePiece have for them."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True)
class Pieces:
    """What such a vocabulary is made of.

    Attributes:
        pieces: The pieces in the order of their ids, with `SPACE` for spaces.
        scores: A finite number for each.
        types: A `PieceType` for each.
        adds_space: Whether a space goes in front of a text.
        collapses_spaces: Whether of spaces in a row one is left, and none at the ends.
    """

    pieces: Sequence[str]
    scores: Sequence[float]
    types: Sequence[int]
    adds_space: bool = True
    collapses_spaces: bool = False


class SentencePieces:
    """Implements `Vocabulary`.

    Characters that are no piece become their bytes, if bytes are in the vocabulary, and otherwise
    one unknown token for all in a row. Pieces of the user's stand in a text before anything is
    merged. A control token divides texts, each of which gets its space in front, as those who
    trained such models have encoded what stands between.

    Args:
        pieces: What it is made of.
        source: Where it came from, for people.

    Raises:
        TokenizerError: It contradicts itself, or lacks what any text can be spelled with.
    """

    def __init__(self, pieces: Pieces, source: str) -> None:
        self._made_of: Final = pieces
        self._pieces: Final = _named(pieces.pieces)
        self._ids: Final = _ids(self._pieces, source)
        self._types: Final = _types(pieces, source)
        self._scores: Final = _scores(pieces, source)
        by_type: dict[int, list[int]] = {kind: [] for kind in PieceType}
        for id, kind in [pair for pair in enumerate(self._types) if pair[1] != 1]:
            by_type[kind].append(id)
        # Only these are made of characters of a text.
        self._mergeable: Final = dict(self._ids)
        for kind in (PieceType.UNKNOWN, PieceType.CONTROL, PieceType.BYTE):
            for id in by_type[kind]:
                self._mergeable.pop(self._pieces[id], None)
        self._unused: Final = frozenset(self._pieces[id] for id in by_type[PieceType.UNUSED])
        self._bytes: Final = _byte_ids(self._pieces, by_type[PieceType.BYTE], source)
        self._unknown: Final = next(iter(by_type[PieceType.UNKNOWN]), None)
        if not self._bytes and self._unknown is None:
            raise TokenizerError(
                f"{source}: the tokenizer has neither pieces for bytes nor one for what is unknown,"
                " so most texts cannot be spelled"
            )
        control = [*by_type[PieceType.UNKNOWN], *by_type[PieceType.CONTROL]]
        self.control: dict[int, str] = {id: self._pieces[id] for id in sorted(control)}
        self._user: dict[str, int] = {
            self._pieces[id]: id for id in by_type[PieceType.USER_DEFINED]
        }
        bounds.check_added((*self.control.values(), *self._user), source)
        self._cut_texts()
        self._word: Final = _word_pattern(self._mergeable)
        self._kept: dict[str, list[int]] = {}

    @property
    def drops_first_space(self) -> bool:
        """See `Vocabulary.drops_first_space`."""
        return self._made_of.adds_space

    def encode(self, text: str, *, special: bool) -> list[int]:
        """See `Vocabulary.encode`."""
        if not special:
            return self._encode_part(text)
        ids: list[int] = []
        for part, is_control in self._controls.cut(text):
            if is_control:
                ids.append(self._ids[part])
            else:
                ids += self._encode_part(part)
        return ids

    def id_of(self, token: str) -> int | None:
        """See `Vocabulary.id_of`."""
        return self._ids.get(token)

    def token_of(self, id: int) -> str | None:
        """See `Vocabulary.token_of`."""
        return self._pieces[id] if 0 <= id < len(self._pieces) else None

    def bytes_of(self, id: int) -> bytes:
        """See `Vocabulary.bytes_of`."""
        piece = self.token_of(id)
        if piece is None:
            return b""
        if self._types[id] == PieceType.BYTE and (match := _BYTE.fullmatch(piece)):
            return bytes.fromhex(match[1])
        return piece.replace(SPACE, " ").encode()

    def make_control(self, tokens: Iterable[str]) -> None:
        """See `Vocabulary.make_control`."""
        ids = {token: self._ids[token] for token in tokens}
        self.control = dict(sorted({**self.control, **{i: t for t, i in ids.items()}}.items()))
        self._user = {piece: id for piece, id in self._user.items() if id not in self.control}
        for token in ids:  # which no text is merged into
            self._mergeable.pop(token, None)
        self._kept.clear()
        self._cut_texts()

    def missing_bytes(self) -> Iterable[int]:
        """See `Vocabulary.missing_bytes`; what has no piece is unknown, and so has a token."""
        return ()

    def longest(self) -> int:
        """See `Vocabulary.longest`; no spelling of a piece is longer than the piece."""
        if not self._bytes or self._made_of.collapses_spaces:
            return 0
        return max(len(piece.encode()) for piece in self._pieces)

    def files(self) -> Mapping[str, bytes]:
        """See `Vocabulary.files`."""
        from pipelines.common.text.sentence_piece_file import FILE_NAME, written

        types = [*self._types]
        for id in self.control:
            if types[id] != PieceType.UNKNOWN:
                types[id] = PieceType.CONTROL
        scores = self._scores.tolist()
        return {
            FILE_NAME: written(
                replace(self._made_of, pieces=self._pieces, scores=scores, types=types)
            )
        }

    def _cut_texts(self) -> None:
        self._controls = Literals(self.control.values())
        self._users = Literals(self._user)

    def _encode_part(self, text: str) -> list[int]:
        """The ids of a text without control tokens."""
        collapses = self._made_of.collapses_spaces
        if collapses:
            text = re.sub(" +", " ", text.lstrip(" "))
        if not text:
            return []
        text = (SPACE if self._made_of.adds_space else "") + text.replace(" ", SPACE)
        if collapses:
            text = text.rstrip(SPACE)
        ids: list[int] = []
        for part, is_user in self._users.cut(text):
            if is_user:
                ids.append(self._user[part])
                continue
            for word in self._word.findall(part):
                found = self._kept.get(word)
                if found is None:
                    found = self._merged(word)
                    if len(word) <= _LONGEST_KEPT:
                        if len(self._kept) >= _KEPT_WORDS:
                            self._kept.clear()
                        self._kept[word] = found
                if found[:1] == ids[-1:] == [self._unknown]:
                    found = found[1:]  # all that is unknown in a row is one token
                ids += found
        return ids

    def _merged(self, text: str) -> list[int]:
        """The ids of a text that no piece crosses the ends of."""
        ids, scores, unused = self._mergeable, self._scores, self._unused
        symbols: list[str] = [*text]
        count = len(symbols)
        before, after = [*range(-1, count - 1)], [*range(1, count + 1)]
        halves: dict[str, tuple[str, str]] = {}

        def candidate(left: int, right: int) -> tuple[float, int, int, str] | None:
            merged = symbols[left] + symbols[right]
            id = ids.get(merged)
            if id is None:
                return None
            if merged in unused:
                halves[merged] = symbols[left], symbols[right]
            return -scores[id], left, right, merged

        waiting = [found for at in range(count - 1) if (found := candidate(at, at + 1))]
        heapify(waiting)
        while waiting:
            _, left, right, merged = heappop(waiting)
            if not symbols[left] or symbols[left] + symbols[right] != merged:
                continue  # one of them has been merged since
            symbols[left], symbols[right] = merged, ""
            following = after[left] = after[right]
            if following < count:
                before[following] = left
                if found := candidate(left, following):
                    heappush(waiting, found)
            if (previous := before[left]) >= 0 and (found := candidate(previous, left)):
                heappush(waiting, found)
        return self._found(filter(None, symbols), halves)

    def _found(self, symbols: Iterable[str], halves: Mapping[str, tuple[str, str]]) -> list[int]:
        """The ids of what has been merged; unused pieces are taken apart again.

        One that is a single character is as unknown as one that is no piece.
        """
        found: list[int] = []
        waiting = [*symbols][::-1]
        while waiting:
            symbol = waiting.pop()
            id = self._mergeable.get(symbol)
            if symbol in halves:
                waiting += reversed(halves[symbol])
            elif id is not None and symbol not in self._unused:
                found.append(id)
            elif self._bytes:
                found += [self._bytes[byte] for byte in symbol.encode()]
            elif self._unknown is not None and found[-1:] != [self._unknown]:
                found.append(self._unknown)
        return found


def _named(pieces: Sequence[str]) -> Sequence[str]:
    """The pieces; one without text gets a name."""
    if "" not in pieces:
        return pieces
    return [piece or f"[EMPTY_{id}]" for id, piece in enumerate(pieces)]


def _ids(pieces: Sequence[str], source: str) -> dict[str, int]:
    bounds.check_count(len(pieces), bounds.MAX_TOKENS, "tokens", source)
    bounds.check_tokens(pieces, source)
    return ids_of(pieces, source)


def _types(pieces: Pieces, source: str) -> Sequence[int]:
    count = len(pieces.pieces)
    if len(pieces.types) != count:
        raise TokenizerError(
            f"{source}: the tokenizer has {count} tokens but {len(pieces.types)} token types"
        )
    if strange := set(pieces.types) - set(PieceType):
        raise TokenizerError(
            f"{source}: the tokenizer has a token of the type {min(strange)}; there are 1 to 6"
        )
    return pieces.types


def _scores(pieces: Pieces, source: str) -> array[float]:
    count = len(pieces.pieces)
    if len(pieces.scores) != count:
        raise TokenizerError(
            f"{source}: the tokenizer has {count} tokens but {len(pieces.scores)} scores"
        )
    scores = array("f", pieces.scores)  # as they are compared by SentencePiece
    if not isfinite(sum(scores)):
        id, score = next(pair for pair in enumerate(scores) if not isfinite(pair[1]))
        raise TokenizerError(
            f"{source}: the tokenizer's token {id} has the score {score}; expected a finite one"
        )
    return scores


def _byte_ids(pieces: Sequence[str], ids: list[int], source: str) -> list[int]:
    """The id of each byte's piece; none at all where there are no such pieces."""
    if not ids:
        return []
    found: dict[int, int] = {}
    for id in ids:
        match = _BYTE.fullmatch(pieces[id])
        if match is None:
            raise TokenizerError(
                f"{source}: token {id} stands for a byte and is {quoted(pieces[id])}; expected"
                " <0x00> to <0xFF>"
            )
        found[int(match[1], 16)] = id
    if missing := [byte for byte in range(256) if byte not in found]:
        raise TokenizerError(
            f"{source}: the tokenizer has pieces for {len(found)} bytes and none for"
            f" 0x{missing[0]:02X}; expected all 256 or none"
        )
    return [found[byte] for byte in range(256)]


def _word_pattern(pieces: Iterable[str]) -> re.Pattern[str]:
    """What finds parts of a text that can be merged apart from each other.

    A text may be cut before a space where no piece has the character before it and the space.
    """
    pieces = [piece for piece in pieces if SPACE in piece[1:]]
    inside = {char for piece in pieces for char in re.findall(f"(?s).(?={SPACE})", piece)}
    joined = "".join(map(re.escape, sorted(inside)))
    inner = f"(?<=[{joined}]){SPACE}|" if joined else ""
    return re.compile(f"(?s).(?:{inner}[^{SPACE}])*")
