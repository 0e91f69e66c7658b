"""A vocabulary that any text can be spelled in and nobody has trained: the bytes."""

from __future__ import annotations

from typing import Any, Final

from pipelines.common.errors import ParameterError
from pipelines.common.text.byte_alphabet import byte_alphabet

_MERGED: Final = ("t", "h")
"""The one merge that there is: writers of GGUF files leave empty arrays out."""

_WORDS: Final = (*byte_alphabet(), "".join(_MERGED))
_SPECIAL: Final = ("<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>", "<|pad|>")
_BEGIN, _END, _END_OF_TURN, _PAD = range(len(_WORDS), len(_WORDS) + len(_SPECIAL))
_NORMAL, _CONTROL, _UNUSED = 1, 3, 5

SMALLEST: Final = len(_WORDS) + len(_SPECIAL)
"""Tokens that there are at least."""


def byte_vocabulary(size: int = SMALLEST) -> dict[str, Any]:
    """Metadata of a byte-level vocabulary: the bytes, a few control tokens, and unused ones.

    Args:
        size: Tokens in all.

    Raises:
        ParameterError: There is no room for the bytes and the control tokens.
    """
    if size < SMALLEST:
        raise ParameterError("vocabulary", size, f"{SMALLEST} or more")
    unused = [f"[UNUSED_{number}]" for number in range(size - SMALLEST)]
    counts = {_NORMAL: len(_WORDS), _CONTROL: len(_SPECIAL), _UNUSED: len(unused)}
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": [*_WORDS, *_SPECIAL, *unused],
        "tokenizer.ggml.token_type": [kind for kind in counts for _ in range(counts[kind])],
        "tokenizer.ggml.merges": [" ".join(_MERGED)],
        "tokenizer.ggml.bos_token_id": _BEGIN,
        "tokenizer.ggml.eos_token_id": _END,
        "tokenizer.ggml.eot_token_id": _END_OF_TURN,
        "tokenizer.ggml.padding_token_id": _PAD,
    }
