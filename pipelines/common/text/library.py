"""Vocabularies of the `tokenizers` library."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import tokenizers
from tokenizers import AddedToken

from pipelines.common.errors import TokenizerError, quoted
from pipelines.common.text.byte_alphabet import byte_alphabet

_NEVER_IN_TEXT: Final = frozenset({0xC0, 0xC1, *range(0xF5, 0x100)})
"""Bytes that no UTF-8 has (RFC 3629)."""


class LibraryVocabulary:
    """A tokenizer of the library as a `Vocabulary`.

    Args:
        backend: The library's tokenizer.
        source: Where it came from, for people.

    Raises:
        TokenizerError: Its tokens do not stand for bytes.
    """

    def __init__(self, backend: tokenizers.Tokenizer, source: str) -> None:
        self.backend: Final = backend
        self._source = source
        decoders = _decoders(backend)
        self._spelled_bytes = _spelled_bytes(decoders, source)
        self.drops_first_space: Final = any(
            step["type"] == "Strip" and step["content"] == " " and step["start"] == 1
            for step in decoders
        )
        self.control: dict[int, str] = {}
        self._verbatim: dict[int, str] = {}
        self._read_added()

    def _read_added(self) -> None:
        added = self.backend.get_added_tokens_decoder()
        self.control = {id: token.content for id, token in added.items() if token.special}
        self._verbatim = {id: token.content for id, token in added.items() if not token.special}

    def encode(self, text: str, *, special: bool) -> list[int]:
        """See `Vocabulary.encode`."""
        self.backend.encode_special_tokens = not special
        with told_panics(self._source):
            ids: list[int] = self.backend.encode(text, add_special_tokens=False).ids
        return ids

    def id_of(self, token: str) -> int | None:
        """See `Vocabulary.id_of`."""
        id: int | None = self.backend.token_to_id(token)
        return id

    def token_of(self, id: int) -> str | None:
        """See `Vocabulary.token_of`."""
        token: str | None = self.backend.id_to_token(id)
        return token

    def bytes_of(self, id: int) -> bytes:
        """See `Vocabulary.bytes_of`."""
        if id in self._verbatim:
            return self._verbatim[id].encode()
        spelling = self.token_of(id)
        return b"" if spelling is None else self._spelled_bytes(spelling)

    def make_control(self, tokens: Iterable[str]) -> None:
        """See `Vocabulary.make_control`."""
        self.backend.add_special_tokens([AddedToken(token, normalized=False) for token in tokens])
        self._read_added()

    def missing_bytes(self) -> Iterable[int]:
        """See `Vocabulary.missing_bytes`."""
        if self._spelled_bytes is not _byte_level:
            return ()  # what has no token is spelled byte by byte
        return [
            byte
            for char, byte in _ALPHABET.items()
            if byte not in _NEVER_IN_TEXT and self.id_of(char) is None
        ]

    def longest(self) -> int:
        """See `Vocabulary.longest`."""
        added = self.backend.get_added_tokens_decoder().values()
        if (
            self.backend.normalizer is not None
            or any(token.lstrip or token.rstrip for token in added)
            or self.backend.pre_tokenizer is None
            or not _keeps_all(json.loads(self.backend.pre_tokenizer.__getstate__()))
        ):
            return 0
        ids = self.backend.get_vocab().values()
        names = map(len, map(str.encode, self.control.values()))
        return max((*names, *(len(self.bytes_of(id)) for id in ids)), default=0)

    def files(self) -> Mapping[str, bytes]:
        """See `Vocabulary.files`."""
        return {"tokenizer.json": self.backend.to_str().encode()}


@contextmanager
def told_panics(source: str) -> Iterator[None]:
    """Makes an error of a panic of the library, as at a regular expression that takes too long.

    Raises:
        TokenizerError: The library has panicked.
    """
    try:
        yield
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # a class that cannot be imported
            raise
        raise TokenizerError(
            f"{source}: the tokenizer fails: {quoted(str(error))}; give another one with"
            " `tokenizer_path`"
        ) from error


def _keeps_all(pre_tokenizer: dict[str, object]) -> bool:
    """Whether a pre-tokenizer of the library makes bytes and drops nothing."""
    steps = pre_tokenizer.get("pretokenizers", [pre_tokenizer])
    assert isinstance(steps, list)
    kinds = [step["type"] for step in steps]
    return (
        "ByteLevel" in kinds
        and set(kinds) <= {"ByteLevel", "Split", "Digits"}
        and all(step.get("behavior") != "Removed" for step in steps)
    )


def _decoders(backend: tokenizers.Tokenizer) -> list[dict[str, Any]]:
    """The steps of the library's decoder."""
    state = {} if backend.decoder is None else json.loads(backend.decoder.__getstate__())
    return [step for step in state.get("decoders", [state]) if "type" in step]


def _spelled_bytes(decoders: list[dict[str, Any]], source: str) -> Callable[[str], bytes]:
    """How the vocabulary spells bytes, told by the decoders that undo it."""
    kinds = {decoder["type"] for decoder in decoders}
    if "ByteLevel" in kinds:
        return _byte_level
    if "ByteFallback" in kinds:
        return _sentence_piece
    raise TokenizerError(
        f"{source}: the tokenizer decodes with {', '.join(sorted(kinds)) or 'nothing'}; "
        "expected byte-level BPE, or SentencePiece with byte fall-back"
    )


def _byte_level(spelling: str) -> bytes:
    if all(char in _ALPHABET for char in spelling):
        return bytes(_ALPHABET[char] for char in spelling)
    return spelling.encode()  # a token put in verbatim


def _sentence_piece(spelling: str) -> bytes:
    match = _SINGLE_BYTE.fullmatch(spelling)
    return bytes.fromhex(match[1]) if match else spelling.replace("▁", " ").encode()


_ALPHABET: Final = byte_alphabet()
_SINGLE_BYTE: Final = re.compile(r"<0x([0-9A-Fa-f]{2})>")
