"""How large a vocabulary may be: several times what models have, and little enough to be cheap.

Whatever a file claims, its bounds are checked before the `tokenizers` library sees it: an added
token takes 70 bytes of memory for each of its own, so that a single one could cost gigabytes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from pipelines.common.errors import TokenizerError

MAX_TOKENS: Final = 1 << 20
"""Four times as many as the largest vocabulary has; ids stay below it as well."""

MAX_MERGES: Final = 1 << 20

MAX_TOKEN_BYTES: Final = 1 << 14
"""The longest tokens of models, runs of blanks and dashes, have 1,024 bytes."""

MAX_ADDED_BYTES: Final = 4 << 20
"""Of all tokens together that are found in a text before it is cut into words."""


_CHARACTER_BYTES: Final = 4
"""The most that one takes in UTF-8."""


def check_count(count: int, most: int, what: str, source: str) -> None:
    """Checks how many of something a vocabulary has.

    Raises:
        TokenizerError: More than `most`.
    """
    if count > most:
        raise TokenizerError(
            f"{source}: the tokenizer has {count:,} {what}, expected at most {most:,}"
        )


def check_ids(ids: Iterable[object], source: str) -> None:
    """Checks how large token ids are; what is no number is left to whoever reads it.

    Raises:
        TokenizerError: One is too large.
    """
    largest = max((id for id in ids if isinstance(id, int)), default=0)
    if largest >= MAX_TOKENS:
        raise TokenizerError(
            f"{source}: the tokenizer has the token id {largest:,}, expected less than"
            f" {MAX_TOKENS:,}"
        )


def check_tokens(tokens: Collection[str], source: str) -> None:
    """Checks how long tokens are.

    Raises:
        TokenizerError: One is too long.
    """
    if max(map(len, tokens), default=0) * _CHARACTER_BYTES <= MAX_TOKEN_BYTES:
        return
    longest = max((len(token.encode(errors="surrogatepass")) for token in tokens), default=0)
    if longest > MAX_TOKEN_BYTES:
        raise TokenizerError(
            f"{source}: the tokenizer has a token of {longest:,} bytes, expected at most"
            f" {MAX_TOKEN_BYTES:,}"
        )


def check_added(tokens: Iterable[str], source: str) -> None:
    """Checks how long the tokens that are found in a text are together.

    Raises:
        TokenizerError: They are too long.
    """
    total = sum(len(token.encode(errors="surrogatepass")) for token in tokens)
    if total > MAX_ADDED_BYTES:
        raise TokenizerError(
            f"{source}: the tokenizer's control and added tokens have {total:,} bytes, expected at"
            f" most {MAX_ADDED_BYTES:,}"
        )
