"""How many tokens a text has at least, told without making them.

Making them takes two hundred times the memory of the text, which is a lot for one that is too long.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Final

from pipelines.common.text.tokenizer import Tokenizer, byte_alphabet

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
    backend = tokenizer.backend
    added = backend.get_added_tokens_decoder().values()
    if (
        backend.normalizer is not None
        or any(token.lstrip or token.rstrip for token in added)
        or backend.pre_tokenizer is None
        or not _keeps_all(json.loads(backend.pre_tokenizer.__getstate__()))
    ):
        return 0, b""
    longest = max(
        (len(tokenizer.token_bytes(id, special=True)) for id in range(tokenizer.vocab_size)),
        default=0,
    )
    alphabet = byte_alphabet().items()
    return longest, bytes(byte for char, byte in alphabet if backend.token_to_id(char) is None)


def _keeps_all(pre_tokenizer: dict[str, object]) -> bool:
    """Whether a pre-tokenizer of the `tokenizers` library makes bytes and drops nothing."""
    steps = pre_tokenizer.get("pretokenizers", [pre_tokenizer])
    assert isinstance(steps, list)
    kinds = [step["type"] for step in steps]
    return (
        "ByteLevel" in kinds
        and set(kinds) <= {"ByteLevel", "Split", "Digits"}
        and all(step.get("behavior") != "Removed" for step in steps)
    )
