"""Text to token ids and back, whatever file the vocabulary came from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import tokenizers

from pipelines.common.errors import PromptError, TokenizerError
from pipelines.common.text.end_tokens import named_end_tokens
from pipelines.common.text.library import LibraryVocabulary
from pipelines.common.text.vocabulary import Vocabulary


class Tokenizer:
    """A vocabulary, with what a text generator needs to know of it.

    A control token (``<|eot_id|>``) steers a model and stands for no text. Every other token stands
    for bytes, which need not be whole characters.

    Attributes:
        vocabulary: The tokens, and how text is cut into them.
        vocab_size: One more than the largest id.
        bos_id: The token that begins a text, if there is one.
        end_ids: The tokens that end a generation.
        eos_id: The one that a text ends with, if its settings name one.
        adds_bos: Whether the model expects a text to begin with `bos_id`.
        source: Where the tokenizer came from, for people.
    """

    def __init__(
        self,
        vocabulary: Vocabulary | tokenizers.Tokenizer,
        *,
        vocab_size: int,
        bos_id: int | None,
        end_ids: Iterable[int],
        adds_bos: bool,
        source: str,
        eos_id: int | None = None,
    ) -> None:
        """Takes a vocabulary; tokens that end a text by their names join `end_ids`.

        Those are control tokens from then on, whatever the vocabulary has them as. Of a tokenizer
        of the library the template for special tokens is not used.

        Raises:
            TokenizerError: Its tokens do not stand for bytes, or it lacks a token it should add.
        """
        if isinstance(vocabulary, tokenizers.Tokenizer):
            vocabulary = LibraryVocabulary(vocabulary, source)
        if adds_bos and bos_id is None:
            raise TokenizerError(
                f"{source}: a beginning-of-text token is to be added, but none is named"
            )
        named_ends = named_end_tokens(vocabulary.id_of)
        vocabulary.make_control(named_ends)
        self.vocabulary = vocabulary
        self.vocab_size = vocab_size
        self.bos_id = bos_id
        self.end_ids = frozenset(end_ids) | frozenset(named_ends.values())
        self.eos_id = eos_id
        self.adds_bos = adds_bos
        self.source = source

    @property
    def control_tokens(self) -> Mapping[int, str]:
        """How each control token is spelled, by id."""
        return self.vocabulary.control

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
        ids = self.vocabulary.encode(text, special=special)
        if not (self.adds_bos if bos is None else bos):
            return ids
        if self.bos_id is None:
            raise TokenizerError(f"{self.source}: there is no beginning-of-text token to add")
        return ids if ids[:1] == [self.bos_id] else [self.bos_id, *ids]

    def decode(self, ids: Iterable[int], *, special: bool = False) -> str:
        """The text of `ids`, a whole one, with U+FFFD for bytes that are no UTF-8.

        A space that the vocabulary puts in front of every text is not part of it.

        Args:
            ids: Token ids.
            special: Whether control tokens are spelled out.
        """
        parts: list[bytes] = []
        begun = not self.vocabulary.drops_first_space
        for id in ids:
            part = self.token_bytes(id, special=special)
            if not begun and id not in self.vocabulary.control:
                part, begun = part.removeprefix(b" "), True
            parts.append(part)
        return b"".join(parts).decode("utf-8", errors="replace")

    def token_bytes(self, id: int, *, special: bool = False) -> bytes:
        """The bytes that a token stands for; none for ids beyond the vocabulary.

        Args:
            id: A token id. Models pad their vocabulary, so larger ones than `vocab_size` occur.
            special: Whether a control token is spelled out.
        """
        control = self.vocabulary.control.get(id)
        if control is not None:
            return control.encode() if special else b""
        return self.vocabulary.bytes_of(id)

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
        missing = sorted(self.vocabulary.missing_bytes())
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
            "special_tokens": len(self.vocabulary.control),
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
