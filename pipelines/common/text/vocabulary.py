"""What a tokenizer needs of a vocabulary, whatever made it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from pipelines.common.errors import TokenizerError, quoted


class Vocabulary(Protocol):
    """Tokens, how a text is cut into them, and which bytes each stands for.

    A `tokenizers.Tokenizer` becomes one with `LibraryVocabulary`; `SentencePieces` is another.
    """

    @property
    def control(self) -> Mapping[int, str]:
        """The tokens that steer a model and stand for no text, by id."""

    @property
    def drops_first_space(self) -> bool:
        """Whether a text gets a space in front that does not belong to it."""

    def encode(self, text: str, *, special: bool) -> list[int]:
        """The ids of a text.

        Args:
            text: Any text without lone surrogates.
            special: Whether control tokens spelled in the text are meant as such.

        Raises:
            TokenizerError: It cannot be done.
        """

    def id_of(self, token: str) -> int | None:
        """The id of a token as the vocabulary spells it."""

    def token_of(self, id: int) -> str | None:
        """A token as the vocabulary spells it; None for ids that it does not have."""

    def bytes_of(self, id: int) -> bytes:
        """The bytes that a token stands for, if it is no control token; none for unknown ids."""

    def make_control(self, tokens: Iterable[str]) -> None:
        """Makes tokens of the vocabulary control tokens, whatever they were."""

    def missing_bytes(self) -> Iterable[int]:
        """The bytes that text may consist of and that vanish from it."""

    def longest(self) -> int:
        """Bytes of a text that one token stands for at most; 0 where that is not known."""

    def files(self) -> Mapping[str, bytes]:
        """The vocabulary as model repositories carry it: the content of files by name."""


def ids_of(tokens: Sequence[str], source: str) -> dict[str, int]:
    """The ids of tokens that stand in the order of these.

    Args:
        tokens: As the vocabulary spells them.
        source: Where they came from, for people.

    Raises:
        TokenizerError: One is there twice.
    """
    ids = dict(zip(tokens, range(len(tokens)), strict=True))
    if len(ids) != len(tokens):
        first = next(id for id, token in enumerate(tokens) if ids[token] != id)
        raise TokenizerError(
            f"{source}: the tokenizer has the token {quoted(tokens[first])} twice, as {first} and"
            f" {ids[tokens[first]]}"
        )
    return ids
