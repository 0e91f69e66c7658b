"""Text to token ids and back, whatever file the vocabulary came from."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import tokenizers
from tokenizers import AddedToken

from pipelines.common.errors import PromptError, TokenizerError, quoted
from pipelines.common.text.end_tokens import named_end_tokens

_NEVER_IN_TEXT: Final = frozenset({0xC0, 0xC1, *range(0xF5, 0x100)})
"""Bytes that no UTF-8 has (RFC 3629)."""


class Tokenizer:
    """A vocabulary of the `tokenizers` library, with what a text generator needs to know of it.

    A control token (``<|eot_id|>``) steers a model and stands for no text. Every other token stands
    for bytes, which need not be whole characters.

    Attributes:
        backend: The library's tokenizer. Its template for special tokens is not used.
        vocab_size: One more than the largest id.
        bos_id: The token that begins a text, if there is one.
        end_ids: The tokens that end a generation.
        adds_bos: Whether the model expects a text to begin with `bos_id`.
        source: Where the tokenizer came from, for people.
    """

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        *,
        vocab_size: int,
        bos_id: int | None,
        end_ids: Iterable[int],
        adds_bos: bool,
        source: str,
    ) -> None:
        """Wraps `backend`; tokens that end a text by their names join `end_ids`.

        Those are control tokens from then on, whatever the vocabulary has them as.

        Raises:
            TokenizerError: Its tokens do not stand for bytes, or it lacks a token it should add.
        """
        if adds_bos and bos_id is None:
            raise TokenizerError(
                f"{source}: a beginning-of-text token is to be added, but none is named"
            )
        named_ends = named_end_tokens(backend.token_to_id)
        backend.add_special_tokens([AddedToken(name, normalized=False) for name in named_ends])
        added = backend.get_added_tokens_decoder()
        self._control = {id: token.content for id, token in added.items() if token.special}
        self._verbatim = {id: token.content for id, token in added.items() if not token.special}
        self._spelled_bytes = _spelled_bytes(backend, source)
        self.backend = backend
        self.vocab_size = vocab_size
        self.bos_id = bos_id
        self.end_ids = frozenset(end_ids) | frozenset(named_ends.values())
        self.adds_bos = adds_bos
        self.source = source

    def encode(self, text: str, *, special: bool = True, bos: bool | None = None) -> list[int]:
        """The ids of `text`.

        Args:
            text: Any text; the empty one has no tokens of its own.
            special: Whether control tokens spelled in the text are meant as such; else they are
                text like any other.
            bos: Whether the ids begin with `bos_id`, once even when the text spells it; None for
                what the model expects.

        Raises:
            PromptError: `text` holds lone surrogates, as undecodable command-line bytes become.
            TokenizerError: `bos` is asked for where there is none, or the library fails.
        """
        check_unicode(text)
        self.backend.encode_special_tokens = not special
        with told_panics(self.source):
            ids: list[int] = self.backend.encode(text, add_special_tokens=False).ids
        if not (self.adds_bos if bos is None else bos):
            return ids
        if self.bos_id is None:
            raise TokenizerError(f"{self.source}: there is no beginning-of-text token to add")
        return ids if ids[:1] == [self.bos_id] else [self.bos_id, *ids]

    def decode(self, ids: Iterable[int], *, special: bool = False) -> str:
        """The text of `ids`, with U+FFFD for bytes that are no UTF-8.

        Args:
            ids: Token ids.
            special: Whether control tokens are spelled out.
        """
        return b"".join(self.token_bytes(id, special=special) for id in ids).decode(
            "utf-8", errors="replace"
        )

    def token_bytes(self, id: int, *, special: bool = False) -> bytes:
        """The bytes that a token stands for; none for ids beyond the vocabulary.

        Args:
            id: A token id. Models pad their vocabulary, so larger ones than `vocab_size` occur.
            special: Whether a control token is spelled out.
        """
        if id in self._control:
            return self._control[id].encode() if special else b""
        if id in self._verbatim:
            return self._verbatim[id].encode()
        spelling = self.backend.id_to_token(id)
        return b"" if spelling is None else self._spelled_bytes(spelling)

    def piece(self, id: int) -> str:
        """A token in print: its text, with escapes for what is not printable or not a character."""
        text = self.token_bytes(id, special=True).decode("utf-8", errors="backslashreplace")
        return "".join(
            char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
        )

    def missing_bytes(self) -> str | None:
        """Says which bytes of text have no token, if any.

        They vanish from a prompt, with llama.cpp and `transformers` as well.
        """
        if self._spelled_bytes is not _byte_level:
            return None  # what has no token is spelled byte by byte
        missing = sorted(
            byte
            for char, byte in _ALPHABET.items()
            if byte not in _NEVER_IN_TEXT and self.backend.token_to_id(char) is None
        )
        if not missing:
            return None
        shown = [f"0x{byte:02X}" for byte in missing[:8]] + ["..."] * (len(missing) > 8)
        return (
            f"{self.source}: the tokenizer has no token for {len(missing)} of the bytes that text"
            f" consists of ({', '.join(shown)}); they are left out of prompts"
        )

    def describe(self) -> dict[str, Any]:
        """What `inspect` shows; JSON values only."""
        return {
            "source": self.source,
            "vocab_size": self.vocab_size,
            "special_tokens": len(self._control),
            "adds_bos": self.adds_bos,
            "bos": None if self.bos_id is None else self._named(self.bos_id),
            "end": [self._named(id) for id in sorted(self.end_ids)],
        }

    def _named(self, id: int) -> dict[str, Any]:
        return {"id": id, "piece": self.piece(id)}


def check_unicode(text: str) -> None:
    """Makes sure that a text can be cut into tokens.

    Raises:
        PromptError: It holds lone surrogates, as undecodable command-line bytes become.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise PromptError(
            f"the text is not valid Unicode at character {error.start}; give it as UTF-8"
        ) from error


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


def check_matches(tokenizer: Tokenizer, vocab_size: int) -> None:
    """Checks that a tokenizer can belong to a model with `vocab_size` rows of embeddings.

    Models round their vocabulary up, so up to a tenth (or 1,024) of the rows may have no token.

    Raises:
        TokenizerError: It has ids that the model lacks, or far fewer than the model.
    """
    if tokenizer.vocab_size > vocab_size:
        raise TokenizerError(
            f"{tokenizer.source}: the tokenizer has {tokenizer.vocab_size:,} tokens but the model "
            f"only {vocab_size:,}; it belongs to another model"
        )
    if vocab_size - tokenizer.vocab_size > max(1024, vocab_size // 10):
        raise TokenizerError(
            f"{tokenizer.source}: the tokenizer has {tokenizer.vocab_size:,} tokens but the model "
            f"{vocab_size:,}, more than padding explains; it belongs to another model"
        )


def byte_alphabet() -> dict[str, int]:
    """The character that stands for each byte in a byte-level vocabulary.

    Bytes that are printable in Latin-1 stand for themselves, the others for the code points from
    256 on (Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", and the code
    released with it).
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = sorted(set(range(256)) - set(printable))
    return {chr(byte): byte for byte in printable} | {
        chr(256 + index): byte for index, byte in enumerate(others)
    }


def _spelled_bytes(backend: tokenizers.Tokenizer, source: str) -> Callable[[str], bytes]:
    """How the vocabulary spells bytes, told by the decoder that undoes it."""
    state = {} if backend.decoder is None else json.loads(backend.decoder.__getstate__())
    kinds = {decoder["type"] for decoder in state.get("decoders", [state]) if "type" in decoder}
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
