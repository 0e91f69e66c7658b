"""How many tokens a text has at least, told without making them.

Making them takes two hundred times the memory of the text, which is a lot for one that is too long.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from pipelines.common.text.tokenizer import Tokenizer

_SMALL: Final = 1 << 16
"""Characters of a text that is tokenized whatever comes of it."""


def least_tokens(tokenizer: Tokenizer, text: str) -> int:
    """A number of tokens that a text has at least; 0 where that is not known, or not needed.

    Each byte belongs to one token, if the vocabulary has it, so there are no fewer tokens than the
    longest of them goes into the text.
    """
    if len(text) < _SMALL:
        return 0
    longest, missing = _bounds(tokenizer)
    if not longest:
        return 0
    # What is no text is refused by whoever tokenizes it.
    kept = len(text.encode(errors="replace").translate(None, missing))
    return -(-kept // longest)


@lru_cache(maxsize=1)
def _bounds(tokenizer: Tokenizer) -> tuple[int, bytes]:
    """Bytes of the longest token, 0 if a token may stand for more, and bytes that have none."""
    vocabulary = tokenizer.vocabulary
    longest = vocabulary.longest()
    return longest, bytes(vocabulary.missing_bytes()) if longest else b""
